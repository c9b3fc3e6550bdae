from os import makedirs, path
from tempfile import gettempdir

from hello.utils.text import headline

if 'data_exporter' not in globals():
    from mage_ai.data_preparation.decorators import data_exporter
if 'test' not in globals():
    from mage_ai.data_preparation.decorators import test


@data_exporter
def export(report, *args, **kwargs):
    headline(kwargs.get('title', 'Penguins'))
    print(report.to_string(index=False))
    folder = kwargs.get('export_dir') or path.join(gettempdir(), 'orrery-hello')
    makedirs(folder, exist_ok=True)
    target = path.join(folder, 'colonies.csv')
    report.to_csv(target, index=False)
    print(f'\nwritten to {target}')
    return target


@test
def the_file_is_there(target, *args):
    assert path.getsize(target) > 0
