"""Rows of files, whatever kind they are of: each kind known by its content, else by its name."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from slmbench.datasets._declared import Row
from slmbench.datasets._delimited import delimited_rows
from slmbench.datasets._json import json_values
from slmbench.datasets._source import Source
from slmbench.datasets._tables import parquet_rows
from slmbench.errors import DataError
from slmbench.formats import FormatFault
from slmbench.formats.toon import decode_toon
from slmbench.schema import ReadSpec

_PLAIN_ENDINGS = (".jsonl", ".parquet", ".csv", ".tsv", ".json", ".ndjson")
ROW_ENDINGS = (*_PLAIN_ENDINGS, *(f"{one}.gz" for one in _PLAIN_ENDINGS if one != ".parquet"))
"""How files of rows are called. The first two are what a mirror is made of."""


def read_rows(path: str, limit: int | None = None, read: ReadSpec | None = None) -> list[Row]:
    """The first `limit` rows of a file: JSON (Lines, an array, objects one after the other), CSV, TSV, Parquet or Toon.

    Each of them but Parquet and Toon may be packed with gzip, and be in UTF-16 where a mark says so. The same rows make
    the same values, whatever they lie in; cells of CSV are texts. NaN is None. read: what a file doesn't say itself.
    Raises DataError naming the file, the line and what is not a row.
    """
    rows = []
    for line, value in islice(numbered_values(path, read), limit):
        if isinstance(value, DataError):
            raise value
        if not isinstance(value, dict):
            where = f"{Source(path).where}:{line}" if line else Source(path).where
            raise DataError(f"{where}: expected a JSON object, got {type(value).__name__}")
        rows.append(value)
    return rows


def numbered_values(path: str, read: ReadSpec | None = None) -> Iterator[tuple[int, object]]:
    """(line from 1, 0 if there are no lines, and the row, or whatever stands in its place) of a file.

    A line that is not JSON is yielded as its DataError; raises DataError if the file as a whole can't be read.
    """
    source = Source(path, read or ReadSpec())
    name = path.lower().removesuffix(".gz")
    if source.starts_with(b"PAR1") or name.endswith(".parquet"):
        yield from ((0, row) for row in parquet_rows(source))
    elif name.endswith(".toon"):
        yield from ((0, row) for row in _toon_rows(source))
    elif name.endswith((".csv", ".tsv", ".tab")) or source.read.delimiter is not None:
        yield from delimited_rows(source, source.read.delimiter)
    else:
        yield from json_values(source, source.read.field)


def _toon_rows(source: Source) -> list[Row]:
    """The rows of a Toon document: an array of objects, alone or as the one key `rows`, as `data export` writes it."""
    try:
        value = decode_toon(source.text())
    except FormatFault as error:
        raise DataError(f"{source.where}: {error}") from error
    rows = value.get("rows") if isinstance(value, dict) and len(value) == 1 else value
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{source.where}: expected a table of rows, as in `rows[2]{{question,answer}}:`")
    return rows
