"""Rows of a registered loader, behind a boundary that says whose fault it was."""

from __future__ import annotations

import copy
import inspect
import itertools

from slmbench.datasets._declared import Dataset, Row
from slmbench.datasets._nulls import without_nan
from slmbench.errors import DataError, did_you_mean
from slmbench.registry import Registered


def loaded_rows(dataset: Dataset, split: str, limit: int | None) -> list[Row]:
    """What the data set's loader yields for a split, the first `limit` rows.

    Raises DataError for options that it doesn't take, and for rows that are not dicts of one set of columns; HookError
    where it fails.
    """
    entry, declared = dataset.loader, dataset.spec.loader
    assert declared is not None
    where = f"data set {dataset.name!r}, split {split!r}"
    if entry is None:
        raise DataError(f"{where}: its loader {declared.name!r} belongs to a plugin that was not run")
    given = {"split": split, "folder": dataset.folder, **declared.options}
    parameters = inspect.signature(entry.function).parameters
    takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    for name in declared.options:
        if name in ("split", "folder"):
            raise DataError(f"{where}: loader.options.{name} can't be set in a declaration; remove it")
        if name not in parameters and not takes_all:
            hint = did_you_mean(name, parameters)
            raise DataError(f"{where}: loader {entry.name!r} ({entry.where}) takes no {name!r}{hint}")
    for name, parameter in parameters.items():
        if name not in given and parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            raise DataError(f"{where}: loader {entry.name!r} ({entry.where}) needs loader.options.{name}")
    rows: list[Row] = []
    try:
        made = entry.function(**{name: value for name, value in given.items() if name in parameters or takes_all})
        for row in itertools.islice(made, limit):
            rows.append(_checked(row, rows, entry, where))
    except DataError:
        raise
    except (Exception, SystemExit) as error:
        raise entry.fault("", f"{where}, row {len(rows)}", error) from error
    return rows


def _checked(row: object, rows: list[Row], entry: Registered, where: str) -> Row:
    place = f"{entry.where}: loader {entry.name!r}: {where}, row {len(rows)}"
    if not isinstance(row, dict) or not all(isinstance(key, str) for key in row):
        raise DataError(f"{place}: expected a dict with text keys, got {type(row).__name__}")
    if rows and row.keys() != rows[0].keys():
        raise DataError(
            f"{place}: has the columns {', '.join(row)}, but the rows before have {', '.join(rows[0])}; a loader's "
            "rows have one set of columns, with None for a missing value"
        )
    for column, value in row.items():
        if (strange := _strange(value)) is not None:
            raise DataError(
                f"{place}: column {column!r} holds a {strange}; a loader yields texts, numbers, true and false, None, "
                "and lists and dicts of these"
            )
    # Its own lists may be filled anew for the next row.
    return dict(copy.deepcopy(without_nan(row)))


def _strange(value: object) -> str | None:
    """The type of something in a value that no file of rows could hold; None if there is none."""
    if isinstance(value, list | tuple):
        return next((found for one in value if (found := _strange(one)) is not None), None)
    if isinstance(value, dict):
        inner = (found for key, one in value.items() for found in (_strange(key), _strange(one)) if found is not None)
        return next(inner, None)
    plain = value is None or isinstance(value, str | bool | int | float) or hasattr(value, "dtype")
    return None if plain else type(value).__name__
