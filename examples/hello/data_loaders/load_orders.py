import pandas as pd

if 'data_loader' not in globals():
    from mage_ai.data_preparation.decorators import data_loader
if 'test' not in globals():
    from mage_ai.data_preparation.decorators import test


@data_loader
def load_orders(*args, **kwargs):
    return pd.DataFrame({
        'customer': ['Ada', 'Grace', 'Ada', 'Edsger', 'Grace', 'Ada'],
        'fish': ['herring', 'krill', 'krill', 'herring', 'herring', 'squid'],
        'kilos': [2.0, 5.5, 1.0, 4.0, 3.5, 0.5],
    })


@test
def nobody_orders_nothing(orders, *args):
    assert (orders['kilos'] > 0).all()
