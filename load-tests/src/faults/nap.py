import time


@custom
def nap(*args, **kwargs):
    time.sleep(kwargs.get('seconds', 3))
