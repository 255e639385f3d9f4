def generate(split, index, seed):
    return {"question": "q"}
