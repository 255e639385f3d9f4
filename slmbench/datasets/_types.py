"""Declared types: what the values of a column are turned into, or an error that names column, row and value.

text: numbers, decimals and dates as they are written (dates as ISO 8601), bytes as UTF-8. int: whole numbers, also as
floats, decimals or texts. float: numbers, also as texts. bool: true or false, also as yes, no, 1, 0 in any case. json,
python: a text in that notation (a list of pandas in a CSV file is Python's). date: a text in ISO 8601. Null stays null,
and the empty text of a CSV cell is null to all of them but text.
"""

from __future__ import annotations

import ast
import datetime
import decimal
import io
import json
import math
import tokenize
from collections.abc import Callable, Mapping
from typing import Any

from slmbench.datasets._declared import Row
from slmbench.errors import DataError
from slmbench.foreign import check_depth, check_surrogates, decoder
from slmbench.schema import ColumnType

MAX_DEPTH = 60
MAX_DIGITS = 100
MAX_PYTHON_CHARS = 100_000
_DECODER = decoder(nan_is_null=True)
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_Date = datetime.date | datetime.time


def with_types(rows: list[Row], types: Mapping[str, ColumnType], where: str) -> list[Row]:
    """The rows with these columns turned into their types. Raises DataError for the first value that can't be."""
    if not types:
        return rows
    absent = sorted(name for name in types if rows and name not in rows[0])
    if absent:
        there = ", ".join(sorted(rows[0]))
        raise DataError(f"{where}: types names {absent[0]!r}, which the rows lack; the columns are: {there}")
    return [
        {
            name: _typed(value, types[name], name, number, where) if name in types else value
            for name, value in row.items()
        }
        for number, row in enumerate(rows)
    ]


def _typed(value: object, kind: ColumnType, column: str, number: int, where: str) -> object:
    if value is None:
        return None
    if isinstance(value, str) and not value.strip() and kind != "text":
        return None
    try:
        return _TYPES[kind](value)
    except (ValueError, TypeError, SyntaxError, ArithmeticError, RecursionError, MemoryError) as error:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        because = f" ({error})" if kind in ("json", "python") else ""
        raise DataError(
            f"{where}: row {number}, column {column!r}: {shown} ({type(value).__name__}) is not {_SAID[kind]}{because}"
        ) from error


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, _Date):
        return value.isoformat()
    if isinstance(value, str | int | float | decimal.Decimal):
        return str(value)
    raise TypeError


def _int(value: object) -> int:
    if isinstance(value, bool):
        raise TypeError
    if isinstance(value, str):
        if len(value) > MAX_DIGITS:
            raise ValueError
        number: object = decimal.Decimal(value.strip())
    else:
        number = value
    if isinstance(number, int):
        return number
    if isinstance(number, float | decimal.Decimal) and math.isfinite(number) and number == int(number):
        return int(number)
    raise ValueError


def _float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float | decimal.Decimal):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str | int):
        found = _TRUTH.get(str(value).strip().lower())
        if found is not None:
            return found
    raise ValueError


def _json(value: object) -> object:
    if isinstance(value, list | dict):
        return value
    if not isinstance(value, str):
        raise TypeError("a text is wanted")
    check_depth(value.encode("utf-8", "surrogatepass"), MAX_DEPTH)
    found = _DECODER.decode(value)
    check_surrogates(found)
    return found


def _python(value: object) -> object:
    if isinstance(value, list | dict):
        return value
    if not isinstance(value, str) or len(value) > MAX_PYTHON_CHARS:
        raise TypeError(f"a text of at most {MAX_PYTHON_CHARS:,} characters is wanted")
    check_depth(value.encode("utf-8", "surrogatepass"), MAX_DEPTH)
    source = value.strip()
    tree = ast.parse(source, mode="eval")
    for node in ast.walk(tree):
        # ['a' 'b'], as numpy prints arrays, is one text to Python.
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and _texts_in(ast.get_source_segment(source, node) or "") > 1:
            raise ValueError("texts without a comma between, as numpy prints arrays; write the list as JSON")
    found = ast.literal_eval(tree)
    json.dumps(found)  # Sets, bytes and complex numbers are not values of a row.
    return list(found) if isinstance(found, tuple) else found


def _texts_in(source: str) -> int:
    # In parentheses, as a text may go on in the next line there.
    tokens = tokenize.generate_tokens(io.StringIO(f"({source})").readline)
    return sum(token.type == tokenize.STRING for token in tokens)


def _date(value: object) -> object:
    if isinstance(value, _Date):
        return value
    text = str(value).strip()
    return datetime.date.fromisoformat(text) if len(text) == 10 else datetime.datetime.fromisoformat(text)


_TYPES: Mapping[ColumnType, Callable[[Any], Any]] = {
    "text": _text,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "json": _json,
    "python": _python,
    "date": _date,
}
_SAID: Mapping[ColumnType, str] = {
    "text": "a value that has one text; write it in plugin.py",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "json": "JSON",
    "python": "a literal of Python",
    "date": "a date of ISO 8601, as 2024-05-31",
}
