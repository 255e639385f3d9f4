"""Whether two final answers of a mathematics problem say the same, however they are written.

An answer is cleaned of what only sets it (spacing, sizes of brackets, dollars), and read as a list, a tuple, an
interval, a set, a union, a matrix, a relation, a formula or a text; readings are compared part by part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from attrs import frozen

from slmbench.metrics._math_values import MOST_CHARS, NoFormula, Value, formula_of, same_value, value_of

_MOST_PARTS = 30
# What variables are at the points where formulas are compared: nothing special, and such that roots and logs exist.
_POINTS = (0.7320508, 1.3028147, 0.5772157, 2.2360691, 1.6180341, 0.9159656, 1.2020569, 1.9021606)

_SETTING = re.compile(
    r"\\(?:left|right|bigl?|bigr|Bigl?|Bigr|biggl?|biggr|displaystyle|limits|,|!|;|:|>|quad|qquad)(?![a-zA-Z])"
    r"|\\(?=\s)|~|\$"
)
_NAMED = re.compile(
    r"\\(?:text|textbf|textit|textrm|textnormal|mbox|hbox|mathrm|mathbf|mathit|operatorname|bf|rm)\s*\{([^{}]*)\}"
)
_WRITTEN = (
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\l?dots|\\cdots"), "..."),
    (re.compile(r"\{\s*,\s*\}|,\\!\s*|,\s*\\!"), "\ue000"),  # A comma that parts thousands.
    (re.compile(r"\\\s*\\?%"), "%"),
    (re.compile(r"\\le(?:q|qslant)?(?![a-zA-Z])|<=|\u2264"), r"\\le "),
    (re.compile(r"\\ge(?:q|qslant)?(?![a-zA-Z])|>=|\u2265"), r"\\ge "),
    (re.compile(r"\\lt(?![a-zA-Z])"), "<"),
    (re.compile(r"\\gt(?![a-zA-Z])"), ">"),
    (re.compile(r"\\(?:ne|neq)(?![a-zA-Z])|!=|\u2260"), r"\\ne "),
    (re.compile(r"\\(?:approx|simeq|sim)(?![a-zA-Z])|\u2248"), r"\\approx "),
    (re.compile(r"\\(?:lvert|rvert|vert|mid)(?![a-zA-Z])"), "|"),
    (re.compile(r"\\(?:emptyset|varnothing)(?![a-zA-Z])|\u2205"), r"\\emptyset "),
    (re.compile(r"\\infin(?:ty)?(?![a-zA-Z])|\u221e"), r"\\infty "),
    (re.compile(r"(?<![\\a-zA-Z])(sqrt|pi|sin|cos|tan|sec|csc|cot|ln|log|infty)(?![a-zA-Z])"), r"\\\1 "),
    (re.compile(r"\u03c0"), r"\\pi "),
    (re.compile(r"\u221a"), r"\\sqrt "),
    (re.compile(r"\\cup(?![a-zA-Z])|\u222a"), r"\\cup "),
    (re.compile(r"\\in(?![a-zA-Z])|\u2208"), r"\\in "),
    (re.compile(r"\\pm(?![a-zA-Z])|\u00b1"), r"\\pm "),
    (re.compile(r"\u2212|\u2013"), "-"),
)
_DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degree(?![a-zA-Z])|\u00b0")
_ORDINAL = re.compile(r"(?<=\d)\s*\^\s*\{?\s*(?:th|st|nd|rd)\s*\}?|(?<=\d)(?:th|st|nd|rd)\b")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_BASE = re.compile(r"(?<=\d)_\s*\{?\s*(\d{1,2})\s*\}?\s*$")
_MIXED = re.compile(r"(?<![\d.])(\d{1,9})\s+(\d{1,9})\s*/\s*(\d{1,9})(?![\d.])")
_UNIT = re.compile(
    r"^(.*[\d})\]])\s*((?:(?:[a-zA-Z.]|\\(?:cdot|,))[a-zA-Z.\s/]*)(?:\^\s*\{?\s*[23]\s*\}?)?)$", re.DOTALL
)
_MATRIX = re.compile(r"\\begin\s*\{([pbBvV]?matrix|array)\}(?:\s*\{[^{}]*\})?(.*)\\end\s*\{\1\}", re.DOTALL)
_VARIABLE = re.compile(r"\s*(?:\\?[a-zA-Z]+(?:_\{?\w+\}?)?'?|[a-zA-Z]\s*\(\s*\w+\s*\))\s*")
_ORDER = re.compile(r"(<|>|\\le |\\ge )")
_AND = re.compile(r"\s*(?:,\s*)?\b(?:and|or)\b\s*")
_OPENING, _CLOSING = "([{", ")]}"
_UNITS = {
    "cm": "centimeter", "mm": "millimeter", "km": "kilometer", "m": "meter", "ft": "foot", "feet": "foot",
    "in": "inch", "inche": "inch", "yd": "yard", "mi": "mile", "s": "second", "sec": "second", "min": "minute",
    "h": "hour", "hr": "hour", "g": "gram", "kg": "kilogram", "lb": "pound", "deg": "degree", "percent": "",
    "pct": "", "percentage": "", "mile per hour": "mph", "mileperhour": "mph", "metre": "meter",
}  # fmt: skip


@frozen
class _Cleaned:
    """An answer without its setting. unit: what was measured, '' for none. percent: whether it is one."""

    text: str
    unit: str = ""
    percent: bool = False
    base: str = ""


def same_answer(gold: str, answer: str) -> bool:
    """Whether an answer says what the gold one says. Never raises for a text, whatever is in it."""
    if len(gold) > MOST_CHARS or len(answer) > MOST_CHARS:
        return "".join(gold.split()) == "".join(answer.split())
    a, b = _cleaned(gold), _cleaned(answer)
    if not b.text:
        return not a.text
    if "".join(a.text.split()) == "".join(b.text.split()) and _agree(a.unit, b.unit) and _agree(a.base, b.base):
        return True
    if not (_agree(a.unit, b.unit) and _agree(a.base, b.base)):
        return False
    if any(_same(x, y) for x in _readings(a.text) for y in _readings(b.text)):
        return True
    if a.percent != b.percent:  # 25% is 0.25; that 10% is 10 was found above.
        whole, part = (b, a) if a.percent else (a, b)
        return _same(f"({whole.text})*100", part.text) and "," not in whole.text
    return _same_words(a.text, b.text)


def _agree(a: str, b: str) -> bool:
    """Whether what both say beside the number is the same; a number alone goes with any."""
    return not a or not b or a == b


def _cleaned(text: str) -> _Cleaned:
    text = text.replace("\\\\ ", "\\\\").replace("\\$", "").strip()
    matrix = "\\begin" in text
    text = _NAMED.sub(lambda found: f" {found[1]} ", text) if not matrix else text
    for pattern, instead in _WRITTEN:
        text = pattern.sub(instead, text)
    text = _SETTING.sub(" ", text)
    text = re.sub("\ue000\\s*", "", text)
    text = re.sub(r"\\[{]", "\ue001", text)
    text = re.sub(r"\\[}]", "\ue002", text)
    text, degrees = _DEGREES.subn("", text)
    text = _ORDINAL.sub("", text)
    text, percents = re.subn(r"\s*(?:%|\b(?:percent|pct|percentage)\b)", "", text)
    text = re.sub(r"^(?:USD|[\u20ac\u00a3])\s*|\s*[\u20ac\u00a3]$", "", text.strip())
    text = text.strip().rstrip(".,;").strip()
    base = ""
    if found := _BASE.search(text):
        base, text = found[1], text[: found.start()].strip()
    unit = "degree" if degrees else ""
    if not matrix and (measured := _UNIT.match(text)) and _is_unit(measured[2]):
        text, unit = measured[1].strip(), unit or _unit(measured[2])
    return _Cleaned(text, unit, percents > 0, base)


def _is_unit(text: str) -> bool:
    """Words of two letters or more, or one that is no usual variable."""
    words = re.findall(r"[a-zA-Z]+", text)
    return bool(words) and (max(map(len, words)) > 1 or words == ["m"]) and "\\" not in text


def _unit(text: str) -> str:
    words = [word.lower() for word in re.findall(r"[a-zA-Z]+", text)]
    kept = [word for word in words if word not in ("square", "sq", "cubic", "of", "per", "unit", "units", "grade")]
    singular = [word if word in _UNITS else word.removesuffix("s") for word in kept]
    return " ".join(_UNITS.get(word, word) for word in singular)


def _readings(text: str) -> Iterator[str]:
    """A text with its commas as thousands', if they may be, and as they stand."""
    inside = 0
    for sign in text:
        inside += (sign in "([\ue001") - (sign in ")]\ue002")
        if sign == "," and inside > 0:
            break
    else:
        if (joined := _THOUSANDS.sub(lambda found: found[0].replace(",", ""), text)) != text:
            yield joined
    yield text


def _worded(text: str) -> str:
    """A text's letters and digits. Of one letter case counts: a and A are two answers."""
    plain = re.sub(r"\\[a-zA-Z]+|[^0-9a-zA-Z]", "", text)
    return plain.lower() if len(plain) > 1 else plain


_WORDS = re.compile(r"\(?[a-zA-Z0-9\s.:;'\"-]+\)?")


def _same_words(a: str, b: str) -> bool:
    """Whether two texts that are words, and no formulas, are the same but for case, spacing and punctuation."""
    are_words = all(_WORDS.fullmatch(text) and re.search("[a-zA-Z]", text) for text in (a, b))
    return are_words and _worded(a) == _worded(b) != ""


def _parted(text: str, sign: str) -> list[str]:
    """The parts of a text between signs that stand in no brackets."""
    parts, depth, start, at = [], 0, 0, 0
    while at < len(text):
        one = text[at]
        depth += (one in _OPENING or one == "\ue001") - (one in _CLOSING or one == "\ue002")
        if depth <= 0 and text.startswith(sign, at) and one not in _CLOSING:
            parts.append(text[start:at])
            at += len(sign)
            start = at
            continue
        at += 1
    return [*parts, text[start:]]


def _enclosed(text: str) -> tuple[str, str, str] | None:
    """(opening bracket, what is inside, closing one) of a text that one pair of brackets holds."""
    if len(text) < 2 or text[0] not in "([\ue001" or text[-1] not in ")]\ue002":
        return None
    depth = 0
    for at, sign in enumerate(text):
        depth += (sign in "([{\ue001") - (sign in ")]}\ue002")
        if depth == 0 and at < len(text) - 1:
            return None
    return text[0], text[1:-1], text[-1]


def _same(a: str, b: str) -> bool:
    sides = [_parted(text, "=") for text in (a, b)]
    if all(len(one) == 2 for one in sides) and not all(_VARIABLE.fullmatch(one[0]) for one in sides):
        return _proportional(*(f"({left})-({right})" for left, right in sides))
    a, b = _bare(a), _bare(b)
    if "".join(a.split()) == "".join(b.split()):
        return True
    rows = _matrix(a), _matrix(b)
    if rows[0] is not None or rows[1] is not None:
        return _same_rows(rows[0], rows[1])
    unions = _parted(a, "\\cup "), _parted(b, "\\cup ")
    if len(unions[0]) > 1 or len(unions[1]) > 1:
        return _same_unordered(*unions)
    held = _enclosed(a), _enclosed(b)
    lists = [_listed(text, side) for text, side in zip((a, b), held, strict=True)]
    if lists[0] is None and lists[1] is None:
        return _same_formula(a, b)
    parts = [one if one is not None else [text] for one, text in zip(lists, (a, b), strict=True)]
    kinds = [_kind(side, one) for side, one in zip(held, lists, strict=True)]
    if kinds[0] == kinds[1] == "ordered":
        assert held[0] is not None and held[1] is not None
        return held[0][::2] == held[1][::2] and _same_ordered(*parts)
    if "ordered" in kinds:
        # A tuple and the same parts in the same order without brackets.
        return "set" not in kinds and None not in lists and _same_ordered(*parts)
    return _same_unordered(_expanded(parts[0]), _expanded(parts[1]))


def _kind(side: tuple[str, str, str] | None, parts: list[str] | None) -> str:
    if side is None or parts is None:
        return "list"
    return "set" if side[0] == "\ue001" else "ordered"


def _listed(text: str, side: tuple[str, str, str] | None) -> list[str] | None:
    """The parts of a set, tuple, interval or list; None for what is none of them."""
    if side is not None:
        parts = _parted(_AND.sub(", ", side[1]), ",")
        return parts if len(parts) > 1 or side[0] == "\ue001" else None
    parts = [part for part in _parted(_AND.sub(", ", text), ",") if part.strip()]
    return parts if len(parts) > 1 or "\\pm " in text else None


def _bare(text: str) -> str:
    """Without the name of what is equal to it or lies in it, approximations and brackets around all."""
    text = text.strip()
    if len(halves := _parted(text, "\\in ")) == 2 and _VARIABLE.fullmatch(halves[0]):
        text = halves[1].strip()
    halves = _parted(text, "\\approx ")
    if len(halves) > 1:
        exact = [half for half in halves if half.strip() and not _VARIABLE.fullmatch(half)]
        text = exact[0].strip() if exact else text
    sides = [side.strip() for side in _parted(text, "=")]
    if len(sides) > 1 and _VARIABLE.fullmatch(sides[0]):
        text = sides[-1]
    if (interval := _interval(text)) is not None:
        return "".join(interval)
    if text.startswith("{") and text.endswith("}") and "," in text and text.count("{") == 1:
        return text[1:-1]
    while (side := _enclosed(text)) and side[0] == "(" and side[2] == ")" and len(_parted(side[1], ",")) == 1:
        text = side[1].strip()
    return text


def _matrix(text: str) -> list[list[str]] | None:
    side = _enclosed(text)
    found = _MATRIX.fullmatch(side[1].strip() if side and "\\begin" in side[1] else text)
    if found is None:
        return None
    rows = [row.split("&") for row in re.split(r"\\\\", found[2]) if row.strip()]
    return rows[:_MOST_PARTS]


def _same_rows(a: list[list[str]] | None, b: list[list[str]] | None) -> bool:
    if a is None or b is None or len(a) != len(b):
        return False
    return all(_same_ordered(*pair) for pair in zip(a, b, strict=True))


def _same_ordered(a: Sequence[str], b: Sequence[str]) -> bool:
    return len(a) == len(b) <= _MOST_PARTS and all(map(_same, a, b))


def _same_unordered(a: Sequence[str], b: Sequence[str]) -> bool:
    if len(a) != len(b) or len(a) > _MOST_PARTS:
        return False
    left = list(b)
    for one in a:
        found = next((at for at, other in enumerate(left) if _same(one, other)), None)
        if found is None:
            return False
        del left[found]
    return True


def _expanded(parts: Sequence[str]) -> list[str]:
    """Each part with a plus-minus as the two that it stands for."""
    made = []
    for part in parts:
        made += [part.replace("\\pm ", sign) for sign in "+-"] if "\\pm " in part else [part]
    return made


def _same_formula(a: str, b: str) -> bool:
    return len(_parted(a, "=")) == len(_parted(b, "=")) == 1 and _equal_formulas(a, b)


def _interval(text: str) -> tuple[str, str, str] | None:
    """The interval that inequalities of one variable are: x >= 5, 3 < x <= 4."""
    parts = [part.strip() for part in _ORDER.split(text)]
    if len(parts) == 3 and _VARIABLE.fullmatch(parts[2]) and not _VARIABLE.fullmatch(parts[0]):
        turned = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}
        parts = [parts[2], turned[parts[1]], parts[0]]
    if len(parts) == 3 and _VARIABLE.fullmatch(parts[0]):
        above = parts[1] in (">", "\\ge")
        closed = parts[1] in ("\\le", "\\ge")
        inside = f"{parts[2]},\\infty" if above else f"-\\infty,{parts[2]}"
        return ("[" if above and closed else "("), inside, ("]" if closed and not above else ")")
    if len(parts) == 5 and _VARIABLE.fullmatch(parts[2]):
        if {parts[1], parts[3]} <= {">", "\\ge"}:
            less = [one.replace(">", "<").replace("ge", "le") for one in (parts[3], parts[1])]
            parts = [parts[4], less[0], parts[2], less[1], parts[0]]
        if {parts[1], parts[3]} <= {"<", "\\le"}:
            return ("(" if parts[1] == "<" else "["), f"{parts[0]},{parts[4]}", (")" if parts[3] == "<" else "]")
    return None


def _values(a: str, b: str) -> list[tuple[Value, Value]]:
    """The values of two formulas at the points where both have one. Raises NoFormula if there are too few."""
    (f, of_f), (g, of_g) = (formula_of(_MIXED.sub(_mixed, text)) for text in (a, b))
    names = sorted(of_f | of_g)
    found = []
    for shift in range(5 if names else 1):
        env = {name: _POINTS[(at + shift) % len(_POINTS)] + 0.1 * at for at, name in enumerate(names)}
        try:
            found.append((value_of(f, env), value_of(g, env)))
        except NoFormula:
            continue
    if len(found) < (3 if names else 1):
        raise NoFormula("has no value at most points")
    return found


def _mixed(found: re.Match[str]) -> str:
    return f"({found[1]}+{found[2]}/{found[3]})"


def _equal_formulas(a: str, b: str) -> bool:
    signs = [re.fullmatch(r"\s*([+-]?)\s*\\infty\s*", text) for text in (a, b)]
    if signs[0] or signs[1]:
        return bool(signs[0] and signs[1]) and (signs[0][1] == "-") == (signs[1][1] == "-")  # type: ignore[index]
    try:
        return all(same_value(*pair) for pair in _values(a, b))
    except NoFormula:
        return _same_words(a, b)


def _proportional(a: str, b: str) -> bool:
    """Whether one formula is a number times the other, as the two sides of equations that say the same are."""
    try:
        pairs = _values(a, b)
    except NoFormula:
        return False
    ratios = [complex(x) / complex(y) for x, y in pairs if abs(complex(y)) > 1e-12]
    if len(ratios) < len(pairs) or not ratios or abs(ratios[0]) < 1e-12:
        return False
    return all(same_value(ratio, ratios[0]) for ratio in ratios)


__all__ = ["same_answer"]
