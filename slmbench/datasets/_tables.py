"""Rows of Parquet files and of the hub's tables, their values as Python's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from slmbench.datasets._nulls import without_nan
from slmbench.datasets._source import Source
from slmbench.errors import DataError
from slmbench.values import JsonObject

if TYPE_CHECKING:
    import pyarrow

Convert = Callable[[Any], Any]


def parquet_rows(source: Source) -> Iterator[JsonObject]:
    """The rows of a Parquet file, one batch of them held at a time. Raises DataError."""
    import pyarrow
    import pyarrow.parquet

    try:
        with source.open() as raw, pyarrow.parquet.ParquetFile(raw) as file:
            schema = file.schema_arrow
            twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
            if twice:
                raise DataError(f"{source.where}: the column {twice[0]!r} appears twice; rename one of them")
            mend = shortened(schema)
            for batch in file.iter_batches():
                for row in batch.to_pylist(maps_as_pydicts="strict"):
                    yield mend(without_nan(row))
    except (OSError, pyarrow.ArrowException, UnicodeDecodeError, KeyError, OverflowError) as error:
        raise DataError(f"{source.where}: not a readable Parquet file: {str(error)[:200]}") from error


def shortened(schema: pyarrow.Schema) -> Convert:
    """row -> the row with numbers of float32 and float16 as the shortest text says them: 0.1, not 0.10000000149011612.

    schema: a pyarrow one. A row is changed in place.
    """
    columns = {field.name: convert for field in schema if (convert := _of_type(field.type)) is not None}

    def mend(row: JsonObject) -> JsonObject:
        for name, convert in columns.items():
            if row.get(name) is not None:
                row[name] = convert(row[name])
        return row

    return mend


def _of_type(kind: pyarrow.DataType) -> Convert | None:
    import numpy as np
    from pyarrow import types

    if types.is_float32(kind) or types.is_float16(kind):
        narrow = np.float32 if types.is_float32(kind) else np.float16
        return lambda value: None if value is None else float(str(narrow(value)))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = _of_type(kind.value_type)
        return None if inner is None else lambda value: None if value is None else [inner(one) for one in value]
    if types.is_struct(kind):
        parts = {kind.field(i).name: part for i in range(kind.num_fields) if (part := _of_type(kind.field(i).type))}
        return (lambda value: _in_struct(value, parts)) if parts else None
    return None


def _in_struct(value: object, parts: dict[str, Convert]) -> object:
    if not isinstance(value, dict):
        return value
    return {key: parts[key](inner) if key in parts else inner for key, inner in value.items()}
