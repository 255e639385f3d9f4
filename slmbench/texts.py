"""What counts as a text where one is wanted, and the declared ways from other values to one."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import numbers
import re
from collections.abc import Mapping

MAX_CHARS = 2_000_000
MAX_DIGITS = 100
# Codes alone: glibc takes widths between, and `%1000000000d` is a text of that length.
_DATE_FORM = re.compile(r"(?:[^%]|%-?[a-zA-Z%])*")


class NotText(ValueError):
    """A value that has no one text. The message says its type and the ways to declare one."""


class AsWritten(float):
    """A number whose text is wanted as it is, as `round` makes it: 2.0 is `2.0`."""


def as_text(value: object, name: str = "") -> str:
    """The value as a text: texts, whole numbers, and numbers with a fraction. name: the field's, for the message.

    Raises NotText for null, true and false, whole numbers as floats, numbers that are not finite, lists, structs,
    bytes, dates, decimals and all else: each has several texts, of which the declaration has to choose.
    """
    if isinstance(value, str):
        return str(value)
    if isinstance(value, AsWritten) or (isinstance(value, numbers.Integral) and not isinstance(value, bool)):
        return str(value)
    if isinstance(value, float) and math.isfinite(value) and not value.is_integer():
        return repr(float(value))
    what, way = _kind(value, name or "name")
    raise NotText(f"{repr(name) if name else 'the value'} is {what}; {way}")


def _kind(value: object, name: str) -> tuple[str, str]:
    """(what a value is that is not text, what to declare)."""
    # Where the expression is not a plain field, the ways are shown with a field's.
    column = name.split(".")[0].split("[")[0]
    if value is None:
        return "null", f"say what to write instead, as in {{{{ {name} or '' }}}}"
    if isinstance(value, bool):
        said = str(value).lower()
        return said, f"say what to write, as in {{{{ 'yes' if {name} else 'no' }}}}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return f"{value} (float)", "NaN and infinity can't be written"
        way = f"write {{{{ {name} | int }}}}, or declare `types: {{{column}: int}}` in the data set"
        return f"{value!r}, a whole number as a float", way
    if isinstance(value, list | tuple):
        first = f" of {type(value[0]).__name__}" if value else ""
        way = f"take one, as in {{{{ {name}[0] }}}}, or join them, as in {{{{ {name} | join(', ') }}}}"
        return f"a list{first}", way
    if isinstance(value, Mapping):
        keys = [str(key) for key in value][:6]
        inner = f"{name}.{keys[0]}" if keys and keys[0].isidentifier() else f"{name}['key']"
        way = f"take a part of it, as in {{{{ {inner} }}}}, or write {{{{ {name} | json }}}}"
        return f"a struct ({', '.join(keys)})", way
    if isinstance(value, bytes):
        return "bytes", f"declare `types: {{{column}: text}}` in the data set if they are UTF-8"
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        kind = "a time stamp" if isinstance(value, datetime.datetime) else f"a {type(value).__name__}"
        return f"{kind} ({value})", f"say how it is written, as in {{{{ {name} | date('%Y-%m-%d') }}}}"
    if isinstance(value, decimal.Decimal):
        way = f"write {{{{ {name} | string }}}}, or {{{{ {name} | int }}}} of whole numbers"
        return f"a decimal ({value})", way
    return f"a {type(value).__name__}", "make a text of it in plugin.py"


def to_string(value: object) -> str:
    """A declared text of one value: numbers, decimals and dates as they are. Raises NotText for lists and the like."""
    if isinstance(value, bool | float | decimal.Decimal | datetime.date | datetime.time):
        return str(value)
    return as_text(value)


def to_int(value: object) -> int:
    """A whole number, also of a float, a decimal or a text that is one. Raises ValueError for all else."""
    if isinstance(value, str):
        text = value.strip()
        if len(text) > MAX_DIGITS:
            raise ValueError(f"int: a text of {len(text):,} characters is not a number")
        try:
            value = decimal.Decimal(text)
        except decimal.InvalidOperation:
            raise ValueError(f"int: {text[:40]!r} is not a number; say what to write instead, as in int(0)") from None
    if isinstance(value, bool | numbers.Integral):
        return int(value)
    if not isinstance(value, float | decimal.Decimal):
        raise ValueError(f"int: {'null' if value is None else 'a ' + type(value).__name__} is not a number")
    if not math.isfinite(value):
        raise ValueError(f"int: {value} is not a whole number")
    return int(value)


def to_date(value: object, form: str = "%Y-%m-%d") -> str:
    """A date or time, or a text in ISO 8601, in strftime's codes. Raises ValueError."""
    if not _DATE_FORM.fullmatch(form) or len(form) > 200:
        raise ValueError(f"date: {form[:40]!r} has codes other than %Y, %m, %d and the like")
    if isinstance(text := value, str):
        try:
            value = datetime.datetime.fromisoformat(text.strip())
        except ValueError:
            raise ValueError(f"date: {text[:40]!r} is not a date of ISO 8601, as 2024-05-31") from None
    if not isinstance(value, datetime.date | datetime.time):
        raise ValueError(f"date: {'null' if value is None else 'a ' + type(value).__name__} is not a date")
    return value.strftime(form)


def to_json(value: object) -> str:
    """A value as compact JSON. Raises ValueError for what JSON can't say."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, RecursionError) as error:
        raise ValueError(f"json: {error}") from error
    if len(text) > MAX_CHARS:
        raise ValueError(f"json: would make a text of more than {MAX_CHARS:,} characters")
    return text
