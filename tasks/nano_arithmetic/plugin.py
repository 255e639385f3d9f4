"""Two-step word problems. The numbers and the kind of problem decide the split, so no sum of the test is trained on."""

from slmbench.nano.splits import row_of
from slmbench.nano.words import HOLDERS, NAMES, THINGS


def _gain_then_give(rng, name, other, thing):
    a, b = rng.randint(5, 50), rng.randint(3, 40)
    c = rng.randint(1, a + b - 1)
    question = (
        f"{name} has {a} {thing}. {name} buys {b} more and then gives {c} to {other}. "
        f"How many {thing} does {name} have now?"
    )
    return (a, b, c), question, f"{a}+{b}={a + b}. {a + b}-{c}={a + b - c}.\n#### {a + b - c}"


def _lose_then_find(rng, name, other, thing):
    a, c = rng.randint(10, 60), rng.randint(1, 40)
    b = rng.randint(1, a - 1)
    question = f"{name} had {a} {thing}, lost {b} and found {c}. How many {thing} are there in the end?"
    return (a, b, c), question, f"{a}-{b}={a - b}. {a - b}+{c}={a - b + c}.\n#### {a - b + c}"


def _rows_of_things(rng, name, other, thing):
    a, b = rng.randint(2, 9), rng.randint(2, 9)
    c = rng.randint(1, a * b - 1)
    holder = rng.choice(HOLDERS)
    question = f"There are {a} {holder} of {b} {thing}. {name} takes {c} {thing}. How many {thing} are left?"
    return (a, b, c), question, f"{a}*{b}={a * b}. {a * b}-{c}={a * b - c}.\n#### {a * b - c}"


def _together(rng, name, other, thing):
    a, b = rng.randint(3, 60), rng.randint(1, 39)
    question = (
        f"{name} has {a} {thing}. {other} has {b} more {thing} than {name}. "
        f"How many {thing} do {name} and {other} have together?"
    )
    return (a, b), question, f"{a}+{b}={a + b}. {a}+{a + b}={a + a + b}.\n#### {a + a + b}"


# The kinds with fewer numbers to choose from come less often, so that a test hardly ever asks one thing twice.
_KINDS = (_gain_then_give, _lose_then_find, _rows_of_things, _together)
_SHARES = (0.4, 0.4, 0.1, 0.1)


def generate(split, index, seed):
    def draw(rng):
        (kind,) = rng.choices(_KINDS, _SHARES)
        name, other = rng.sample(NAMES, 2)
        numbers, question, answer = kind(rng, name, other, rng.choice(THINGS))
        return (kind.__name__, numbers), {"question": question, "answer": answer}

    return row_of("nano_arithmetic", split, index, seed, draw)
