if 'condition' not in globals():
    from mage_ai.data_preparation.decorators import condition


@condition
def is_record_day(sales, *args, **kwargs) -> bool:
    return float(sales['kilos'].sum()) >= kwargs.get('record_kilos', 100)
