"""Doubles."""


def _tidy(text):
    return text.strip()


def _number(text):
    return int(_tidy(text))


# A row may lack its answer.


def example(row):
    # The line below raises.
    return {"answer": str(_number(row["answer"]))}
