"""How text and numbers from runs are shown: nothing that a record holds may move a cursor, hide, or pose as markup."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

_SURROGATE = re.compile("[\ud800-\udfff]")


def json_ready(value: object) -> object:
    """value with NaN and infinities as None and lone surrogates as U+FFFD, so that any JSON parser reads it back."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_SURROGATE.sub("\ufffd", str(key)): json_ready(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(part) for part in value]
    return value


def held_name(model: str, quantization: str | None) -> str:
    """A model as it was held: `nano (nf4)`; of a file that is called after its packing, `note-Q4_0 (llama.cpp)`."""
    if quantization is None:
        return model
    program, _, packing = quantization.rpartition(" ")
    named = re.split(r"[-.]", model)[-1].upper() == packing.upper()
    told = program if program == "llama.cpp" and named else quantization
    return f"{model} ({told})"


def number(value: float) -> str:
    """A score as people read it: three decimals, or four digits from 100 on."""
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"


def interval_text(low: float, high: float) -> str:
    """`0.756–0.899`, or with `to` where a minus sign would read like the dash."""
    return f"{number(low)} to {number(high)}" if low < 0 else f"{number(low)}\u2013{number(high)}"


def percent(share: float) -> str:
    """A share in short: 12%, 3.4%, under 0.1%."""
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}" if share >= 0.001 else "under 0.1%"


SYMMETRIC = frozenset({"t", "cr2-t", "t-seeds"})
"""Methods whose intervals are as wide below a value as above it."""
INTERVALS = "\u00b1 and [ ]: 95% intervals, symmetric or not"


def interval_signs(methods: Iterable[str]) -> str:
    """What intervals of these methods are shown by: `\u00b1`, `[ ]`, both, or nothing."""
    kinds = {method in SYMMETRIC for method in methods if method != "none"}
    return " and ".join(sign for symmetric, sign in ((True, "\u00b1"), (False, "[ ]")) if symmetric in kinds)


def interval(low: float, high: float, method: str) -> str:
    """` \u00b10.023`, ` [0.943, 0.989]` where it isn't symmetric by its method, or nothing for `none`."""
    if method == "none":
        return ""
    if method in SYMMETRIC:
        return f" \u00b1{number((high - low) / 2)}"
    return f" [{number(low)}, {number(high)}]"


def short_interval(low: float, high: float, method: str) -> str:
    """`interval` without the zero before a decimal point, for narrow tables."""
    return re.sub(r"(?<![0-9])0\.", ".", interval(low, high, method))


def count(value: float) -> str:
    """A count in short: 950, 12.3k, 1.1M, 4.0B."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            short = value / size
            return f"{short:.0f}{unit}" if short >= 99.95 else f"{short:.1f}{unit}"
    return f"{value:.0f}"


def size(value: float) -> str:
    """Bytes in short, decimal units: 512 B, 1.1 MB."""
    if value == 0:
        return "0"
    short = count(value).replace("B", "G")
    return f"{short[:-1]} {short[-1]}B" if short[-1].isalpha() else f"{short} B"


def duration(seconds: float) -> str:
    """Seconds in short: 0.4 s, 25 s, 3.5 min, 2.1 h."""
    if seconds == 0:
        return "0"
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


def rank_range(low: int, high: int) -> str:
    """`1` or `1-3`."""
    return str(low) if low == high else f"{low}-{high}"


_DIGITS = re.compile(r"(\d+)", re.ASCII)


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts text as people count: task 2 before task 10."""
    parts = _DIGITS.split(text.casefold())
    return (
        *((1, int(part), "") if part.isdecimal() and part.isascii() else (2, 0, part) for part in parts),
        (0, 0, text),
    )
