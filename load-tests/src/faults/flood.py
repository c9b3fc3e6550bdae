@custom
def flood(*args, **kwargs):
    for number in range(int(kwargs.get('lines', 1000))):
        print(f'line {number} of a block that writes faster than anybody reads')
