import random

if 'transformer' not in globals():
    from mage_ai.data_preparation.decorators import transformer


@transformer
def survive_winter(colony, *args, **kwargs):
    """Runs once per colony, on as many executors as there are, each with its own item."""
    chance = random.Random(colony['birds'])
    birds = sum(chance.random() < 0.9 for _ in range(colony['birds']))
    print(f"{colony['colony']}: {birds} of {colony['birds']} birds came through the winter")
    return {'colony': colony['colony'], 'before': colony['birds'], 'after': birds}
