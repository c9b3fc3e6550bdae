if 'transformer' not in globals():
    from mage_ai.data_preparation.decorators import transformer
if 'test' not in globals():
    from mage_ai.data_preparation.decorators import test


@transformer
def chicks_per_nest(birds, *args, **kwargs):
    nests = birds.groupby('colony', as_index=False).agg(nests=('ring', 'count'), chicks=('chicks', 'sum'))
    nests['chicks_per_nest'] = (nests['chicks'] / nests['nests']).round(2)
    return nests


@test
def no_nest_has_more_than_two_chicks(nests, *args):
    assert (nests['chicks'] <= 2 * nests['nests']).all()
