@custom
def write(*args, **kwargs):
    return 'x' * int(kwargs.get('mib', 1) * 1024 * 1024)
