"""Numbers as people and models write them: which one a text ends in, and what it is worth."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal, localcontext
from itertools import islice

ANCHOR = "####"
MAX_DIGITS = 1_000
"""A longer run of digits is a model that got stuck, not a number."""

_PRECISION = 60
# A model that got stuck writes numbers without end; only the last one counts.
_WINDOW = 4 * MAX_DIGITS
_MOST_MARKS = 50
_MAX_EXPONENT = 100
_THIN_SPACES = "\u00a0\u2007\u2009\u202f"
_WIDE = str.maketrans(
    {
        **{0xFF10 + i: str(i) for i in range(10)},
        0xFF0E: ".",
        0xFF0C: ",",
        0xFF0D: "-",
        0xFF0F: "/",
        0xFF03: "#",
        0xFF04: "$",
    }
)
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*([0-9]{1,40})\s*\}\s*\{\s*([0-9]{1,40})\s*\}")
# What may stand between the mark and its number, beside a sign: emphasis, brackets, a currency, "about".
_LEAD = re.compile(r"[\s:=*_(\[{~≈\\+]*(?:boxed\{|text\{|\()?\s*")
_SUM = re.compile(r"[\s*_$]*[0-9][0-9.,\s+\-\u2212*/×÷()$%]*=")
# After the marked result a new question, or another turn, begins a text of its own.
_RUN_ON = re.compile(
    r"\n[ \t]*\n|\n[ \t]*(?:Question|Q|Problem|User|Human|Assistant)\b[^\n]{0,20}:|\n[^\n]*\?[ \t]*(?:\n|$)"
)
_DOTTED = re.compile(r"[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+(?![0-9])")
_COMMA = re.compile(r",([0-9]{1,2}|[0-9]{4,})(?![0-9,])")
_EXPONENT = re.compile(
    r"[eE]([+-]?[0-9]{1,4})(?![\w.])|[ ]?(?:[x×*·]|\\times)[ ]?10[ ]?(?:\^|\*\*)[ ]?\{?([+-]?[0-9]{1,4})\}?"
)
_POWER = re.compile(r"[ ]?(?:\^|\*\*)[ ]?\{?([0-9]{1,2})\}?(?![0-9])")
_FRACTION = re.compile(r"[ ]?[/\u2044][ ]?([0-9]{1,40})(?![0-9/])")
_MIXED = re.compile(r"[ ]([0-9]{1,40})[ ]?[/\u2044][ ]?([0-9]{1,40})(?![0-9/])")


def _number_pattern(spaces: str) -> re.Pattern[str]:
    """A signed decimal number: a currency sign after the sign, thousands in threes by commas or one of the spaces."""
    grouped = rf"[0-9]{{1,3}}(?P<separator>,|\{{,\}}|[{spaces}])[0-9]{{3}}(?:(?P=separator)[0-9]{{3}})*(?![0-9/\u2044])"
    return re.compile(
        # A hyphen after a word, a digit or a bracket joins or subtracts: 17-18 ends in 18, not in -18.
        r"(?P<sign>(?<![\w)])[-\u2212])?(?:\\?[$€£¥]\s?)?"
        rf"(?:(?P<whole>{grouped}|[0-9]+)(?P<fraction>\.[0-9]+)?|(?P<bare_fraction>(?<![0-9])\.[0-9]+))"
    )


_NUMBER = _number_pattern(_THIN_SPACES)
_NUMBER_WITH_SPACES = _number_pattern(" " + _THIN_SPACES)


def final_number(text: str) -> Decimal | None:
    """The number that a text gives as its result; None if there is none.

    With a mark `####`: the number right behind it, whatever follows on its line, else the first one on that line; of
    several marks the last one before the text runs on to another question or turn. Without a mark: the last number of
    the text. Currency signs and thousands separators (comma, thin or no-break space, LaTeX's {,}) go. An ordinary space
    separates thousands only after the mark or where the number is the whole text: in prose it stands between two
    numbers. Fractions, mixed numbers, exponents, powers, decimal commas and full-width digits are what they are worth.
    A number of more than MAX_DIGITS characters counts as none.
    """
    text = _LATEX_FRACTION.sub(r" \1/\2", _narrow(text))
    first = text.find(ANCHOR)
    if first >= 0:
        found = _marked(text[first:])
        if found is not None:
            return found[0]
    alone = text.strip()
    match = _NUMBER_WITH_SPACES.match(alone)
    if match is not None:
        value, end = _value(alone, match)
        if end == len(alone):
            return value
    return _last(text)


def _narrow(text: str) -> str:
    text = text.translate(_WIDE)
    if text.isascii():
        return text
    # One half is 1/2, after a blank: 1½ is a mixed number.
    return "".join(
        f" {unicodedata.normalize('NFKC', one)}" if unicodedata.decomposition(one).startswith("<fraction>") else one
        for one in text
    )


def _marked(text: str) -> tuple[Decimal | None, int] | None:
    """(the number of the last mark of this text before it runs on, where it ends); None if no mark has one."""
    marks = [match.end() for match in islice(re.finditer(r"#{4,}", text), _MOST_MARKS)]
    found = None
    for number, at in enumerate(marks):
        if number and _RUN_ON.search(text[marks[number - 1] :].lstrip(), 0, at - marks[number - 1]):
            break
        rest = text[at : marks[number + 1] - len(ANCHOR) if number + 1 < len(marks) else None]
        found = _of_line(rest) or found
    return found


def _of_line(rest: str) -> tuple[Decimal | None, int] | None:
    line = rest.lstrip().partition("\n")[0]
    if (worked := _SUM.match(line)) is not None:  # 9 * 2 = 18: what it comes to.
        line = line[worked.end() :]
    start = _LEAD.match(line)
    match = _NUMBER_WITH_SPACES.match(line, start.end() if start else 0)
    match = match or _NUMBER_WITH_SPACES.search(line)
    return None if match is None else _value(line, match)


def _last(text: str) -> Decimal | None:
    if len(text) > _WINDOW and any(character.isdigit() for character in text[-_WINDOW:]):
        text = text[-_WINDOW:]
    found, at = None, 0
    while (match := _NUMBER.search(text, at)) is not None:
        found, at = _value(text, match)
    return found


def _value(text: str, match: re.Match[str]) -> tuple[Decimal | None, int]:
    """(what the number that begins at a match is worth, where it ends)."""
    with localcontext() as context:
        context.prec = MAX_DIGITS + _PRECISION
        value, end = _read(text, match)
        if end - match.start() > MAX_DIGITS:
            return None, end
        # Not by unary minus, which rounds to the context's 28 digits.
        return (value.copy_negate() if match["sign"] and value is not None else value), end


def _read(text: str, match: re.Match[str]) -> tuple[Decimal | None, int]:
    end = match.end()
    if end - match.start() > MAX_DIGITS:
        return None, end
    digits = re.sub(r"[^0-9]", "", match["whole"] or "")
    plain = not match["fraction"] and not match["bare_fraction"]
    if match["whole"] and (dotted := _DOTTED.match(text, match.start("whole"))) is not None:
        whole, _, part = dotted[0].replace(".", "").partition(",")
        return Decimal(f"{whole}.{part[:MAX_DIGITS]}"), dotted.end()
    value = Decimal(digits + (match["fraction"] or match["bare_fraction"] or ""))
    if plain and not match["separator"] and (comma := _COMMA.match(text, end)) is not None:
        value, end = Decimal(f"{digits}.{comma[1][:MAX_DIGITS]}"), comma.end()
    if (raised := _EXPONENT.match(text, end)) is not None:
        exponent = int(raised[1] or raised[2])
        return (value.scaleb(exponent) if abs(exponent) <= _MAX_EXPONENT else None), raised.end()
    if plain and len(digits) <= 20 and (power := _POWER.match(text, end)) is not None:
        return Decimal(int(digits) ** int(power[1])), power.end()
    if plain and (mixed := _MIXED.match(text, end)) is not None and int(mixed[2]):
        return value + _divided(Decimal(mixed[1]), Decimal(mixed[2])), mixed.end()
    if (over := _FRACTION.match(text, end)) is not None and int(over[1]):
        return _divided(value, Decimal(over[1])), over.end()
    return value, end


def _divided(one: Decimal, other: Decimal) -> Decimal:
    with localcontext() as context:
        context.prec = _PRECISION
        return one / other
