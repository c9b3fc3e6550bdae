if 'transformer' not in globals():
    from mage_ai.data_preparation.decorators import transformer
if 'test' not in globals():
    from mage_ai.data_preparation.decorators import test


@transformer
def join(weights, nests, *args, **kwargs):
    """One argument per upstream block, in the order of `upstream_blocks`."""
    report = weights.merge(nests, on='colony').sort_values('chicks_per_nest', ascending=False)
    return report.reset_index(drop=True)


@test
def no_colony_is_lost(report, *args):
    assert report['colony'].is_unique and report.notna().all().all()
