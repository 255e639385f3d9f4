"""Rows of JSON: one a line, one after the other, or all of them in an array."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from typing import Any

from slmbench.datasets._source import Source, not_utf8
from slmbench.errors import DataError
from slmbench.foreign import check_depth, check_surrogates, decoder

MAX_DEPTH = 60
_DECODER = decoder(nan_is_null=True)
_BLANKS = " \t\r\n"

Numbered = tuple[int, Any]
"""(line from 1, the row's value, or the DataError of a line that is not JSON)."""


def json_values(source: Source, field: str | None = None) -> Iterator[Numbered]:
    """The values of a JSON file. field: the key under which the rows are a list, where the file is one object.

    A line that can't be read is yielded as its DataError, so that a reader may go on; raises DataError if the file
    as a whole can't be read.
    """
    if field is not None:
        yield from _in_field(source, field)
        return
    first = True
    for number, line in enumerate(source.lines(), 1):
        text = line.strip(b"\xef\xbb\xbf \t\r\n") if number == 1 else line.strip()
        if not text:
            continue
        if first and text.startswith(b"["):
            yield from _array(source)
            return
        value = decoded(line, f"{source.where}:{number}", _DECODER)
        if first and isinstance(value, DataError) and (rows := _following(source)) is not None:
            yield from rows
            return
        first = False
        yield number, value


def decoded(line: bytes, where: str, using: json.JSONDecoder = _DECODER) -> object:
    """A line's value, or the DataError that says why it has none."""
    try:
        text = line.rstrip(b"\r\n").decode("utf-8-sig")
        check_depth(line, MAX_DEPTH)
        value = using.decode(text)
        if "\\u" in text:
            check_surrogates(value)
    except json.JSONDecodeError as error:
        return DataError(f"{where}:{error.colno}: not JSON: {error.msg}{_guess(text)}")
    except UnicodeDecodeError as error:
        return DataError(f"{where}: {not_utf8(line, error)}")
    except (RecursionError, ValueError) as error:
        return DataError(f"{where}: can't be read as JSON: {error}")
    return value


def _guess(text: str) -> str:
    """What a line that is not JSON may be."""
    bare = text.strip()
    if bare.startswith(("//", "#", "/*")):
        return " (JSON has no comments)"
    if "\0" in bare:
        return " (NUL characters; the file is damaged)"
    if bare.endswith(","):
        return " (a comma after the row; put all rows between [ and ], or remove the commas)"
    if bare.startswith("{'"):
        try:
            if isinstance(ast.literal_eval(bare[:100_000]), dict):
                return " (Python's own notation; write rows with json.dumps)"
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            pass
    if not bare.startswith(("{", "[")):
        return " (a CSV file's name ends in .csv or .tsv)"
    return ""


def _array(source: Source) -> Iterator[Numbered]:
    """The values of an array, each with the line on which it begins."""
    text = source.text()
    _hold_depth(source, text)
    at = _skip(text, 0) + 1
    at = _skip(text, at)
    while text[at : at + 1] != "]":
        value, end = _one(source, text, at)
        yield _line(text, at), value
        at = _skip(text, end)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "]":
            raise _fault(source, text, at, "expecting , or ] in the array of rows")
    rest = _skip(text, at + 1)
    if rest < len(text):
        raise _fault(source, text, rest, "extra data after the array of rows")


def _following(source: Source) -> list[Numbered] | None:
    """Objects that follow each other with nothing but blanks between, over any number of lines; None if they don't."""
    text = source.text()
    try:
        _hold_depth(source, text)
        found: list[Numbered] = []
        at = _skip(text, 0)
        while at < len(text):
            if text[at] != "{":
                return None
            value, end = _one(source, text, at)
            found.append((_line(text, at), value))
            at = _skip(text, end)
    except DataError:
        return None
    return found


def _in_field(source: Source, field: str) -> Iterator[Numbered]:
    text = source.text()
    value = decoded(text.encode("utf-8", "surrogatepass"), source.where)
    if isinstance(value, DataError):
        raise value
    rows = value.get(field) if isinstance(value, dict) else None
    if not isinstance(rows, list):
        there = f"it has: {', '.join(sorted(value))}" if isinstance(value, dict) else "it is not an object"
        raise DataError(
            f"{source.where}: `read: {{field: {field}}}` does not name a list of rows in this file; {there}"
        )
    for row in rows:
        yield 0, row


def _one(source: Source, text: str, at: int) -> tuple[object, int]:
    try:
        value, end = _DECODER.raw_decode(text, at)
        if "\\u" in text[at:end]:
            check_surrogates(value)
    except json.JSONDecodeError as error:
        raise _fault(source, text, error.pos, f"not JSON: {error.msg}") from error
    except (RecursionError, ValueError) as error:
        raise DataError(f"{source.where}:{_line(text, at)}: can't be read as JSON: {error}") from error
    return value, end


def _hold_depth(source: Source, text: str) -> None:
    try:
        check_depth(text.encode("utf-8", "surrogatepass"), MAX_DEPTH)
    except ValueError as error:
        raise DataError(f"{source.where}:1: can't be read as JSON: {error}") from error


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANKS:
        at += 1
    return at


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _fault(source: Source, text: str, at: int, message: str) -> DataError:
    column = at - text.rfind("\n", 0, at)
    return DataError(f"{source.where}:{_line(text, at)}:{column}: {message}")
