from hello.utils.text import headline

if 'data_exporter' not in globals():
    from mage_ai.data_preparation.decorators import data_exporter
if 'test' not in globals():
    from mage_ai.data_preparation.decorators import test


@data_exporter
def summarise(colonies, *args, **kwargs):
    """`reduce_output` on the block before turns its children's outputs into one list, in order."""
    headline('After the winter')
    for colony in colonies:
        print(f"{colony['colony']}  {colony['after'] / colony['before']:.0%}")
    return {'colonies': len(colonies), 'birds': sum(colony['after'] for colony in colonies)}


@test
def all_children_came_back(total, *args):
    assert total['colonies'] == 8, total
