if 'transformer' not in globals():
    from mage_ai.data_preparation.decorators import transformer
if 'test' not in globals():
    from mage_ai.data_preparation.decorators import test


@transformer
def average_weight(birds, *args, **kwargs):
    weighed = birds.dropna(subset=['weight_kg'])
    print(f'{len(birds) - len(weighed)} birds walked away before they were weighed')
    return weighed.groupby('colony', as_index=False)['weight_kg'].mean().round(2)


@test
def penguins_have_a_plausible_weight(weights, *args):
    assert weights['weight_kg'].between(1, 10).all(), 'that is no penguin'
