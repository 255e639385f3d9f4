def generate(split, index, seed):
    return {"question": "q", "answer": "abc"[index + 2]}
