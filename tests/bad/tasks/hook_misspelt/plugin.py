def exampel(row):
    return {}
