if 'data_exporter' not in globals():
    from mage_ai.data_preparation.decorators import data_exporter


@data_exporter
def celebrate(sales, *args, **kwargs):
    """Guarded by a condition that is false with the variables as they are: this does not run."""
    print('a record day!')
