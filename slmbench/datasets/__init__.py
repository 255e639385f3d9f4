"""Rows: from a mirror, files of any kind, the hub, a generator or golden samples; typed, parted, fingerprinted."""

from __future__ import annotations

from slmbench.datasets._counted import count_lines, count_rows
from slmbench.datasets._declared import Dataset, Row, Rows, digest_rows, load_dataset_spec
from slmbench.datasets._fetch import fetch_rows, local_source, sample_rows
from slmbench.datasets._files import ROW_ENDINGS, numbered_values, read_rows
from slmbench.datasets._nulls import without_nan

__all__ = [
    "ROW_ENDINGS",
    "Dataset",
    "Row",
    "Rows",
    "count_lines",
    "count_rows",
    "digest_rows",
    "fetch_rows",
    "load_dataset_spec",
    "local_source",
    "numbered_values",
    "read_rows",
    "sample_rows",
    "without_nan",
]
