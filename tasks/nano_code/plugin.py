"""Small functions to be written from their signature and docstring. What a function does decides its split.

Each kind of function draws its constants and says what the function does twice: as a body, and as `does`, from which
the tests' expected values come.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from attrs import frozen

from slmbench.nano.splits import row_of

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BOUNDS = {
    "above": (">", operator.gt),
    "below": ("<", operator.lt),
    "at least": (">=", operator.ge),
    "at most": ("<=", operator.le),
}
_STEPS = {"plus": ("+", operator.add), "minus": ("-", operator.sub), "times": ("*", operator.mul)}


@frozen
class _Function:
    """essence: the same for two functions that return the same for every input. inputs: what the test calls it with."""

    essence: Hashable
    signature: str
    says: str
    body: str
    does: Callable[[Any], Any]
    inputs: Iterable[Any]


def _edge(bound: str, limit: int) -> tuple[str, int]:
    """A bound as it is for whole numbers: `at least 5` is `above 4`."""
    return {
        "above": ("above", limit),
        "at least": ("above", limit - 1),
        "below": ("below", limit),
        "at most": ("below", limit + 1),
    }[bound]


def _bound(rng: random.Random) -> tuple[str, int]:
    return rng.choice(list(_BOUNDS)), rng.randint(1, 99)


def _step(rng: random.Random) -> tuple[str, int]:
    step = rng.choice(list(_STEPS))
    return step, rng.randint(2, 9) if step == "times" else rng.randint(1, 60)


def _range(rng: random.Random) -> list[int]:
    return sorted(rng.sample(range(1, 100), 2))


def _numbers(rng: random.Random, *edges: int) -> list[int]:
    """Each edge with its neighbours, nought, a negative number and a large one."""
    return sorted({-rng.randint(1, 9), 0, rng.randint(100, 200), *(edge + d for edge in edges for d in (-1, 0, 1))})


def _texts(rng: random.Random, *sizes: int) -> list[str]:
    """Texts of each size and its neighbours, an empty one and a longer one, of letters of both cases."""
    lengths = sorted({0, max(sizes) + 7, *(size + d for size in sizes for d in (-1, 0, 1))})
    letters = "".join(rng.choices(_LETTERS, k=max(lengths)))
    return [letters[:length] for length in lengths]


def _rows(rng: random.Random, *edges: int) -> list[list[int]]:
    """Each edge and its neighbours alone, then all of them mixed with others, and an empty list."""
    near = [edge + d for edge in edges for d in (-1, 0, 1)]
    mixed = [*near, *(rng.randint(-9, 120) for _ in range(4))]
    rng.shuffle(mixed)
    return [*([value] for value in near), mixed, []]


def _shift_and_scale(rng: random.Random) -> _Function:
    p, more, by = rng.choice("nxk"), rng.randint(1, 60), rng.randint(2, 9)
    verb, sign = rng.choice((("Add {0} to {1}", "+"), ("Take {0} from {1}", "-")))
    shift = more if sign == "+" else -more
    return _Function(
        ("linear", by, shift * by),
        f"shift_and_scale({p})",
        f"{verb.format(more, p)}, then multiply by {by}.",
        f"return ({p} {sign} {more}) * {by}",
        lambda n: (n + shift) * by,
        _numbers(rng, more),
    )


def _scale_and_shift(rng: random.Random) -> _Function:
    p, more, by = rng.choice("nxk"), rng.randint(1, 60), rng.randint(2, 9)
    verb, sign = rng.choice((("add", "+"), ("take away", "-")))
    shift = more if sign == "+" else -more
    return _Function(
        ("linear", by, shift),
        f"scale_and_shift({p})",
        f"Multiply {p} by {by}, then {verb} {more}.",
        f"return {p} * {by} {sign} {more}",
        lambda n: n * by + shift,
        _numbers(rng, more),
    )


def _clamp(rng: random.Random) -> _Function:
    p, (low, high) = rng.choice("nxk"), _range(rng)
    return _Function(
        ("clamp", low, high),
        f"clamp({p})",
        f"Keep {p} between {low} and {high}.",
        f"return max({low}, min({p}, {high}))",
        lambda n: low if n < low else high if n > high else n,
        _numbers(rng, low, high),
    )


def _in_range(rng: random.Random) -> _Function:
    p, (low, high) = rng.choice("nxk"), _range(rng)
    return _Function(
        ("in_range", low, high),
        f"in_range({p})",
        f"Say whether {p} is from {low} to {high}.",
        f"return {low} <= {p} <= {high}",
        lambda n: n in range(low, high + 1),
        _numbers(rng, low, high),
    )


def _choose(rng: random.Random) -> _Function:
    p, (bound, limit) = rng.choice("nxk"), _bound(rng)
    one, other = rng.sample(range(1, 100), 2)
    sign, holds = _BOUNDS[bound]
    side, edge = _edge(bound, limit)
    return _Function(
        ("choose", edge, one, other) if side == "above" else ("choose", edge - 1, other, one),
        f"choose({p})",
        f"If {p} is {bound} {limit}, return {one}, else {other}.",
        f"if {p} {sign} {limit}:\n        return {one}\n    return {other}",
        lambda n: one if holds(n, limit) else other,
        _numbers(rng, limit),
    )


def _ends(rng: random.Random) -> _Function:
    p, first, last = rng.choice(("s", "text")), rng.randint(2, 60), rng.randint(2, 60)
    return _Function(
        ("ends", first, last),
        f"ends({p})",
        f"Join the first {first} letters of {p} and the last {last}.",
        f"return {p}[:{first}] + {p}[-{last}:]",
        lambda s: s[:first] + s[max(0, len(s) - last) :],
        _texts(rng, first, first + last),
    )


def _middle(rng: random.Random) -> _Function:
    p, first, last = rng.choice(("s", "text")), rng.randint(2, 60), rng.randint(2, 60)
    case = rng.choice(("upper", "lower"))
    return _Function(
        ("middle", first, last, case),
        f"middle({p})",
        f"Drop the first {first} letters of {p} and the last {last}, then use {case} case.",
        f"return {p}[{first}:-{last}].{case}()",
        lambda s: "".join(getattr(c, case)() for c in s[first : max(0, len(s) - last)]),
        _texts(rng, first + last),
    )


def _change_some(rng: random.Random) -> _Function:
    p, (bound, limit), (step, by) = rng.choice(("row", "xs")), _bound(rng), _step(rng)
    sign, holds = _BOUNDS[bound]
    operation, stepped = _STEPS[step]
    return _Function(
        ("change_some", *_edge(bound, limit), step, by),
        f"change_some({p})",
        f"Return v {step} {by} for each v in {p} that is {bound} {limit}.",
        f"return [v {operation} {by} for v in {p} if v {sign} {limit}]",
        lambda row: [stepped(v, by) for v in row if holds(v, limit)],
        _rows(rng, limit),
    )


def _sum_some(rng: random.Random) -> _Function:
    p, (bound, limit), (step, by) = rng.choice(("row", "xs")), _bound(rng), _step(rng)
    sign, holds = _BOUNDS[bound]
    operation, stepped = _STEPS[step]
    return _Function(
        ("sum_some", *_edge(bound, limit), step, by),
        f"sum_some({p})",
        f"Sum what is {bound} {limit} in {p}, {step} {by}.",
        f"return sum(v for v in {p} if v {sign} {limit}) {operation} {by}",
        lambda row: stepped(sum(v for v in row if holds(v, limit)), by),
        _rows(rng, limit),
    )


def _count_some(rng: random.Random) -> _Function:
    p, (low, high) = rng.choice(("row", "xs")), _range(rng)
    return _Function(
        ("count_some", low, high),
        f"count_some({p})",
        f"Count the numbers of {p} from {low} to {high}.",
        f"return sum({low} <= v <= {high} for v in {p})",
        lambda row: len([v for v in row if v in range(low, high + 1)]),
        _rows(rng, low, high),
    )


_KINDS = (
    _shift_and_scale,
    _scale_and_shift,
    _clamp,
    _in_range,
    _choose,
    _ends,
    _middle,
    _change_some,
    _sum_some,
    _count_some,
)


def generate(split, index, seed):
    def draw(rng):
        function = rng.choice(_KINDS)(rng)
        calls = (f"    assert candidate({given!r}) == {function.does(given)!r}\n" for given in function.inputs)
        row = {
            "prompt": f'def {function.signature}:\n    """{function.says}"""\n',
            "canonical_solution": f"    {function.body}\n",
            "test": "def check(candidate):\n" + "".join(calls),
            "entry_point": function.signature.split("(")[0],
        }
        return function.essence, row

    return row_of("nano_code", split, index, seed, draw)
