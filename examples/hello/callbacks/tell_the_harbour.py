if 'callback' not in globals():
    from mage_ai.data_preparation.decorators import callback


@callback('success')
def told(fish, **kwargs):
    print(f"block {kwargs['parent_block_uuid']} has chosen {fish}")


@callback('failure')
def not_told(*args, **kwargs):
    print(f"no boat leaves: {kwargs.get('__error')}")
