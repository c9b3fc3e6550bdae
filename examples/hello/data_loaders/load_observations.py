from os import path

import pandas as pd

from mage_ai.settings.repo import get_repo_path

if 'data_loader' not in globals():
    from mage_ai.data_preparation.decorators import data_loader
if 'test' not in globals():
    from mage_ai.data_preparation.decorators import test


@data_loader
def load(*args, **kwargs):
    birds = pd.read_csv(path.join(get_repo_path(), 'data', 'observations.csv'))
    print(f'{len(birds)} birds in {birds.colony.nunique()} colonies')
    return birds


@test
def every_bird_is_there_once(birds, *args):
    assert len(birds) > 0, 'the file is empty'
    assert birds['ring'].is_unique, 'a ring number occurs twice'
