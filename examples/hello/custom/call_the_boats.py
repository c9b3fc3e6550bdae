if 'custom' not in globals():
    from mage_ai.data_preparation.decorators import custom


@custom
def call_the_boats(sales, *args, **kwargs):
    best = sales.iloc[0]
    print(f"send a boat for {best['fish']}: {best['kilos']} kg were ordered")
    return str(best['fish'])
