"""About how many rows a split has, without reading it: what tells how long an evaluation takes."""

from __future__ import annotations

import contextlib
import glob
import os

from slmbench.datasets._declared import Dataset
from slmbench.datasets._fetch import local_files
from slmbench.errors import DataError, FileError
from slmbench.foreign import Count, Foreign, read_model

LOOKED_AT_BYTES = 4_000_000
"""Of a file of lines; the rest is taken for as many lines a byte."""
_LINES = (".jsonl", ".csv", ".tsv")


class _Split(Foreign):
    num_examples: Count


class _Info(Foreign):
    splits: dict[str, _Split]


def count_rows(dataset: Dataset, split: str) -> int | None:
    """About how many rows a split has; None if only reading it tells.

    Exact for generated rows, Parquet, what the hub's cache notes, and lines of a file of up to LOOKED_AT_BYTES. Rows
    that `filled` leaves out are counted.
    """
    spec = dataset.spec
    if spec.generated is not None:
        return spec.generated.get(split)
    if spec.where or spec.loader is not None or split not in spec.split_names:
        return None
    try:
        paths, parted = local_files(dataset, split)
    except (DataError, OSError):
        return None
    if not paths:
        return _in_cache(dataset, split) if spec.holdout is None else None
    counts = [count_lines(path) for path in paths]
    whole = sum(count for count in counts if count is not None) if None not in counts else None
    held = spec.holdout
    if whole is None or not parted or held is None:
        return whole
    out = min(whole, held.rows) if held.rows is not None else round(whole * (held.share or 0.0))
    return out if split == held.split else whole - out


def count_lines(path: str) -> int | None:
    """About how many rows a file has; None if only reading it tells."""
    ending = os.path.splitext(path)[1]
    try:
        if ending == ".parquet":
            import pyarrow.parquet

            return int(pyarrow.parquet.read_metadata(path).num_rows)
        if ending not in _LINES:
            return None
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            start = file.read(LOOKED_AT_BYTES)
    except Exception:  # A damaged file, of which pyarrow raises what it likes: reading it says so.
        return None
    lines = start.count(b"\n") + (1 if len(start) == size and start and not start.endswith(b"\n") else 0)
    if len(start) < size:
        lines = round(lines * size / len(start))
    return max(0, lines if ending == ".jsonl" else lines - 1)


def _in_cache(dataset: Dataset, split: str) -> int | None:
    """What the cache of the hub's client notes of a split that it holds."""
    spec = dataset.spec
    if spec.hub is None:
        return None
    home = os.environ.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface")
    cache = os.environ.get("HF_DATASETS_CACHE") or os.path.join(home, "datasets")
    place = os.path.join(glob.escape(cache), spec.hub.replace("/", "___"))
    counted = [
        _of_config(os.path.join(place, config or "default", "*", "*"), spec.splits[split]) for config in spec.configs
    ]
    known = [n for n in counted if n is not None]
    return sum(known) if len(known) == len(counted) else None


def _of_config(pattern: str, split: str) -> int | None:
    for path in sorted(glob.glob(os.path.join(pattern, "dataset_info.json"))):
        with contextlib.suppress(FileError, OSError, KeyError):
            return read_model(path, _Info).splits[split].num_examples
    return None
