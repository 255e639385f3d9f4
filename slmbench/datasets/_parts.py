"""Which rows and columns of what lies there are a split: declared columns, `where`, `filled`, and what is held out."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from slmbench.datasets._declared import Row, digest_rows
from slmbench.errors import DataError
from slmbench.schema import DatasetSpec, HoldoutSpec


def with_columns(rows: list[Row], spec: DatasetSpec, where: str) -> list[Row]:
    """The rows in the columns that tasks see. Raises DataError for a column that a row lacks, and for no rows."""
    if not rows:
        raise DataError(f"{where}: the split is empty; a split has at least one row")
    wanted = spec.columns if isinstance(spec.columns, dict) else {name: name for name in spec.columns}
    missing = sorted({theirs for theirs in wanted.values() if theirs not in rows[0]})
    if missing:
        there = ", ".join(sorted(rows[0]))
        ours = next(name for name, theirs in wanted.items() if theirs == missing[0])
        way = f"; say which it is, as in `columns: {{{ours}: NAME}}`" if spec.generated is None else ""
        inside = [name for name, value in rows[0].items() if _is_table(value, missing)]
        if len(rows) == 1 and inside:
            way = f"; {inside[0]!r} is a list of rows: declare `read: {{field: {inside[0]}}}`"
        raise DataError(f"{where}: no column {', '.join(map(repr, missing))}; the columns are: {there}{way}")
    for number, row in enumerate(rows):
        gone = [theirs for theirs in wanted.values() if theirs not in row]
        if gone:
            there = ", ".join(sorted(row))
            raise DataError(f"{where}: row {number} lacks {', '.join(map(repr, gone))}; it has: {there}")
    if not wanted:
        return rows
    # Also where no column is renamed: a mirror that lacks the columns nobody asked for holds the same content.
    return [{ours: row[theirs] for ours, theirs in wanted.items()} for row in rows]


def _is_table(value: object, columns: Sequence[str]) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and set(columns) <= set(value[0])


def chosen(rows: list[Row], spec: DatasetSpec, where: str) -> tuple[list[int], dict[str, int]]:
    """(places of the rows that `where` and `filled` keep, column -> rows left out as it is empty). Raises DataError."""
    places = list(range(len(rows)))
    for column, given in spec.where.items():
        values = given if isinstance(given, list) else [given]
        if column not in rows[0]:
            there = ", ".join(sorted(rows[0]))
            raise DataError(f"{where}: where names {column!r}, which the rows lack; the columns are: {there}")
        # Where no columns are declared, rows need not be alike.
        kept = [place for place in places if any(_is_same(rows[place].get(column), value) for value in values)]
        if not kept:
            others = sorted({str(rows[place].get(column)) for place in places})
            listed = ", ".join(others[:20]) + (", ..." if len(others) > 20 else "")
            raise DataError(f"{where}: no row has {column} {' or '.join(map(repr, values))}; there are: {listed}")
        places = kept
    left_out: dict[str, int] = {}
    for column in spec.filled:
        if column not in rows[0]:
            there = ", ".join(sorted(rows[0]))
            raise DataError(f"{where}: filled names {column!r}, which the rows lack; the columns are: {there}")
        kept = [place for place in places if not _is_empty(rows[place].get(column))]
        if not kept:
            raise DataError(f"{where}: {column!r}, which `filled` names, is empty in every row")
        if len(kept) < len(places):
            left_out[column] = len(places) - len(kept)
        places = kept
    return places, left_out


def _is_same(value: object, wanted: str | int | bool) -> bool:
    # To Python, 1 is the same as True.
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip()) or value in ([], {})


def parted(rows: list[Row], whole: list[Row], spec: DatasetSpec, split: str, where: str) -> list[int]:
    """The places of the held-out rows, or of those left without them and without rows that are the same as one of them.

    whole: the same rows with all columns that lie there, of which `group` is one. Raises DataError if a side would
    be empty.
    """
    held = spec.holdout
    if held is None or split not in (held.split, held.of):
        return list(range(len(rows)))
    if spec.hub is not None and held.rows is not None and held.group is None:
        drawn = _drawn_by_place(len(rows), held, where)
        keys = [digest_rows([row]) for row in rows]
    else:
        keys = [_content(row) for row in rows]
        drawn = _drawn_by_content(_groups(rows, whole, spec, keys, where), held, where)
    if split == held.split:
        return sorted(drawn)
    same = {keys[number] for number in drawn}
    rest = [number for number in range(len(rows)) if number not in drawn and keys[number] not in same]
    if not rest:
        raise DataError(f"{where}: every row is the same as one that holdout takes; nothing is left")
    return rest


def _drawn_by_place(n: int, held: HoldoutSpec, where: str) -> set[int]:
    rows = held.rows or 0
    if rows >= n:
        raise DataError(f"{where}: holdout takes {rows} rows of {n}; declare fewer")
    return set(random.Random(held.seed).sample(range(n), rows))


def _groups(rows: list[Row], whole: list[Row], spec: DatasetSpec, keys: list[str], where: str) -> list[str]:
    """What each row stays together with: the rows of its group, or, without one, the rows that are the same."""
    held = spec.holdout
    assert held is not None
    if held.group is None:
        return keys
    theirs = spec.columns.get(held.group, held.group) if isinstance(spec.columns, dict) else held.group
    found = []
    for number, row in enumerate(whole):
        if theirs not in row:
            there = ", ".join(sorted(row))
            raise DataError(f"{where}: holdout.group names {held.group!r}, which row {number} lacks; it has: {there}")
        if _is_empty(row[theirs]):
            raise DataError(
                f"{where}: row {number} has no {held.group!r}, so it belongs to neither side; give it one, "
                "or leave such rows out with `filled`"
            )
        found.append(digest_rows([_spaced(row[theirs])]))
    return found


def _drawn_by_content(groups: list[str], held: HoldoutSpec, where: str) -> set[int]:
    """The places of whole groups, taken in an order that their values and the seed give, wherever they stand.

    Groups are taken up to the number of rows that is nearest to what is declared, one at least.
    """
    sizes: dict[str, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    of = f"groups of {held.group!r}" if held.group is not None else "rows that differ"
    if len(sizes) < 2:
        raise DataError(f"{where}: holdout needs two {of} at least; there is {len(sizes)}")
    wanted = held.rows if held.rows is not None else held.share * len(groups) if held.share is not None else 0
    if wanted >= len(groups):
        raise DataError(f"{where}: holdout takes {held.rows} rows of {len(groups)}; declare fewer")
    order = sorted(sizes, key=lambda group: hashlib.sha256(f"{held.seed}\0{group}".encode()).digest())
    taken: set[str] = set()
    n = 0
    for group in order[:-1]:
        if taken and abs(n + sizes[group] - wanted) > abs(n - wanted):
            continue
        if not taken and sizes[group] > 2 * wanted and sizes[group] > min(sizes.values()):
            continue  # One large group is not to be the whole of a small part, while there is a smaller one.
        taken.add(group)
        n += sizes[group]
    if not taken:
        taken.add(min(order, key=lambda group: sizes[group]))
    return {number for number, group in enumerate(groups) if group in taken}


def _content(row: Row) -> str:
    return digest_rows([_spaced(row)])


def _spaced(value: object) -> object:
    """The value with the white space of its texts made one blank: a row with a blank more is the same row."""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, dict):
        return {key: _spaced(inner) for key, inner in value.items()}
    return [_spaced(inner) for inner in value] if isinstance(value, list) else value
