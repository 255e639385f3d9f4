"""GSM8K keeps the worked solution and the result in one column, `<solution>\\n#### <result>`."""


def example(row):
    reasoning, _, gold = row["answer"].rpartition("\n#### ")
    if not reasoning:
        raise ValueError("the answer has no line that begins with '#### '")
    return {"reasoning": reasoning, "gold": gold}
