def example(row):
    return {'a': 1
