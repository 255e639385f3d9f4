"""Rows of CSV and TSV, every cell a text: what looks like a number may be a code, a postcode or a telephone's."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

from slmbench.datasets._source import Source
from slmbench.errors import DataError

MAX_CELL_CHARS = 100_000_000
_DELIMITERS = (",", ";", "\t", "|")
# Excel's own word for the delimiter, above the header.
_SEP = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)


def delimited_rows(source: Source, delimiter: str | None) -> Iterator[tuple[int, dict[str, str]]]:
    """(line from 1 on which the row ends, row) each; the first row names the columns. An empty cell is an empty text.

    delimiter: None for the one that the header shows. Rows without any text, which spreadsheets leave behind, are
    passed over, as are columns without name and text. Raises DataError for what is not a table, with file and line.
    """
    text = source.text()
    before = 0
    if (said := _SEP.match(text)) is not None:
        delimiter, text, before = delimiter or said[1], text[said.end() :], 1
    delimiter = delimiter or _delimiter_of(text, source.path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    with _long_cells():
        header: list[str] | None = None
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                where = f"{source.where}:{reader.line_num + before}"
                raise DataError(f"{where}: no CSV: {_said(error)}") from error
            if cells is None:
                return
            if not any(cells):
                continue
            line = reader.line_num + before
            if header is None:
                header = _header(cells, f"{source.where}:{line}")
            elif len(cells) != len(header):
                raise DataError(
                    f"{source.where}:{line}: {len(cells)} cells, but {len(header)} columns; a cell with {delimiter!r}, "
                    'a quote or a line break in it has to be in quotes ("")'
                )
            else:
                yield line, {name: cell for name, cell in zip(header, cells, strict=True) if name or cell}


def _header(cells: list[str], where: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise DataError(f"{where}: the column {twice[0]!r} appears twice; rename one of them")
    return names


def _delimiter_of(text: str, path: str) -> str:
    """The delimiter that parts the header into columns; a comma where none or several do, a tab in a .tsv."""
    if re.search(r"\.(tsv|tab)(\.gz)?$", path.lower()):
        return "\t"
    header = re.split(r"\r\n|\r|\n", re.sub(r'"[^"]*"', '""', text[:100_000].lstrip("\r\n")), maxsplit=1)[0]
    there = [one for one in _DELIMITERS if one in header]
    return there[0] if there else ","


def _said(error: csv.Error) -> str:
    message = str(error)
    if "unexpected end of data" in message:
        return "a quote is opened and never closed"
    if "expected after" in message:
        return f"{message}; a quote inside a quoted cell is written twice"
    return message


@contextmanager
def _long_cells() -> Iterator[None]:
    # The module's limit is made for other things than a patient's whole record, and is the process's alone.
    before = csv.field_size_limit(MAX_CELL_CHARS)
    try:
        yield
    finally:
        csv.field_size_limit(before)
