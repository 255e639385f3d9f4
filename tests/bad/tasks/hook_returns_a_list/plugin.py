def example(row):
    return [row]
