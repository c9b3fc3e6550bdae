if 'data_loader' not in globals():
    from mage_ai.data_preparation.decorators import data_loader


@data_loader
def list_colonies(*args, **kwargs):
    """A dynamic block returns its items and, if it likes, a name for each of the children."""
    colonies = [{'colony': f'Colony {letter}', 'birds': 100 + 25 * n} for n, letter in enumerate('ABCDEFGH')]
    names = [{'block_uuid': colony['colony'].lower().replace(' ', '_')} for colony in colonies]
    return [colonies, names]
