if 'sensor' not in globals():
    from mage_ai.data_preparation.decorators import sensor


@sensor
def market_is_open(*args, **kwargs):
    """Asked again and again until it says yes; it holds no slot while it waits."""
    print('the fish market is open')
    return True
