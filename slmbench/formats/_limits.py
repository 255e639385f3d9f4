"""What one rendering of a model's chat template may take: time, steps, and the size of all that it makes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from types import GeneratorType

MAX_RENDER_S = 5.0
MAX_STEPS = 1_000_000
"""Turns of loops, calls and filters of one rendering."""
MAX_CHARS = 4_000_000
"""Of a text, or of all texts in a list."""
MAX_ITEMS = 1_000_000
MAX_MADE = 200_000_000
"""Characters and items of all values that one rendering makes on its way."""
MAX_NUMBER = 100_000
"""A width, an indentation, a count of digits."""
MAX_BITS = 10_000

_SIZED = ("center", "indent", "wordwrap", "batch", "slice", "round", "truncate", "filesizeformat")


class Beyond(Exception):
    """A limit that was met. No ValueError, which filters of Jinja's take for a bad number."""


class RenderLimits:
    """How far one rendering may go."""

    def __init__(self) -> None:
        self.steps = 0
        self.written = 0
        self.made = 0
        self.ends_at_s = time.monotonic() + MAX_RENDER_S

    def step(self) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS or time.monotonic() > self.ends_at_s:
            raise Beyond(f"its loops and calls go on for more than {MAX_STEPS:,} steps or {MAX_RENDER_S:.0f} s")

    def count(self, items: Iterable[object]) -> Iterator[object]:
        for item in items:
            self.step()
            yield item

    def write(self, value: object) -> str:
        self.step()
        text = str(value)
        self.written += len(text)
        if self.written > MAX_CHARS:
            _too_long()
        return text

    def take(self, value: object) -> object:
        """A value that was made, or is about to be written out; raises if it is too large."""
        if isinstance(value, str | bytes):
            size = len(value)
            if size > MAX_CHARS:
                _too_long()
        elif isinstance(value, list | tuple | dict | set | frozenset):
            size = _size(value)
        elif isinstance(value, GeneratorType):
            return self.count(value)
        else:
            return value
        self.made += size
        if self.made > MAX_MADE:
            _too_long()
        return value

    def check_call(self, function: object, args: tuple[object, ...], named: Mapping[str, object]) -> tuple[object, ...]:
        """The arguments of a call, those that are still to be made made. Raises if it would be too much."""
        self.step()
        method = getattr(function, "__wrapped__", function)  # The sandbox wraps str.format.
        if getattr(method, "__name__", "") == "join":
            args = tuple(list(self.count(one)) if isinstance(one, GeneratorType) else one for one in args)
        for one in (*args, *named.values()):
            self.take(one)
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        if isinstance(owner, str | bytes | int | float):
            _check_method(owner, name, args, named)
        return args

    def check_filter(self, name: str, value: object, args: tuple[object, ...], named: Mapping[str, object]) -> None:
        self.step()
        given = (*args, *named.values())
        for one in (value, *given):
            self.take(one)
        if name in _SIZED:
            _check_numbers(given)
        if name == "indent":
            width = max(
                (one if isinstance(one, int) else len(one) for one in given if isinstance(one, int | str)), default=4
            )
            check_chars((str(value).count("\n") + 1) * width)
        elif name == "join":
            between = len(str(given[0])) if given else 0
            check_chars(between * (len(value) if isinstance(value, Sized) else 0))
        elif name == "sum" and any(not isinstance(one, int | float | str) for one in given):
            raise Beyond("its filter sum adds up values that are not numbers")  # Lists: each sum copies them all.
        elif isinstance(value, str) and name in ("replace", "format"):
            _check_method(value, name, args, named)


def _check_method(owner: str | bytes | float, name: str, args: tuple[object, ...], named: Mapping[str, object]) -> None:
    """Raises for a method of a text or number whose result would be too large to be made."""
    if name in ("format", "format_map", "__mod__"):
        _check_layout(str(owner), [*args, *named.values()])
        return
    _check_numbers(args)
    owner = owner.decode("latin-1") if isinstance(owner, bytes) else owner
    if not isinstance(owner, str):
        return
    if name == "replace" and len(args) >= 2:
        old, new = (one.decode("latin-1") if isinstance(one, bytes) else one for one in args[:2])
        if isinstance(old, str) and isinstance(new, str):
            check_chars(owner.count(old) * len(new))
    elif name == "join" and args and isinstance(args[0], Sized):
        check_chars(len(owner) * len(args[0]))
    elif name == "expandtabs":
        check_chars(owner.count("\t") * max((one for one in args if isinstance(one, int)), default=8))
    elif name == "translate":
        longest = max((len(str(one)) for table in args if isinstance(table, dict) for one in table.values()), default=1)
        check_chars(len(owner) * longest)


def _check_layout(layout: str, given: Sequence[object]) -> None:
    """Raises for a format string whose widths are large, or come from somewhere else."""
    if re.search(r"[0-9]{5}", layout) or "*" in layout or re.search(r"\{[^{}]*\{", layout):
        raise Beyond("it lays numbers out in widths that are too large or not known in advance")
    largest = max((len(str(one)) for one in given), default=0)
    check_chars((layout.count("{") + layout.count("%")) * largest)


def _check_numbers(given: tuple[object, ...]) -> None:
    if any(isinstance(one, int) and abs(one) > MAX_NUMBER for one in given):
        raise Beyond(f"it asks for a width or a count of more than {MAX_NUMBER:,}")


def check_chars(chars: int) -> None:
    if chars > MAX_CHARS:
        _too_long()


def _too_long() -> None:
    raise Beyond(f"it makes more than {MAX_CHARS:,} characters of text")


def _size(value: object) -> int:
    """The items of nested lists and the characters of their texts, each as often as it would be written out."""
    items = chars = 0
    waiting = [value]
    while waiting:
        one = waiting.pop()
        items += 1
        if isinstance(one, str):
            chars += len(one)
        elif isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset):
            waiting += one
        if items + len(waiting) > MAX_ITEMS or chars > MAX_CHARS:
            raise Beyond(f"it makes a list of more than {MAX_ITEMS:,} items or {MAX_CHARS:,} characters")
    return items + chars


def check_operands(operator: str, left: object, right: object) -> None:
    if operator == "*":
        for times, many in ((left, right), (right, left)):
            if isinstance(times, int) and isinstance(many, str | list | tuple):
                check_chars(times * max(1, len(many)))
        if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > MAX_BITS:
            raise Beyond("it computes with numbers of thousands of digits")
    elif operator == "**":
        if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > MAX_BITS:
            raise Beyond("it computes with numbers of thousands of digits")
    elif operator == "%" and isinstance(left, str):
        _check_method(left, "__mod__", right if isinstance(right, tuple) else (right,), {})
