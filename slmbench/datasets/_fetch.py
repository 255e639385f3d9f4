"""Where the rows of a split are had from: a mirror, files, the hub, a generator or the golden samples."""

from __future__ import annotations

import copy
import glob
import os
import re
from collections.abc import Sequence
from functools import lru_cache

from attrs import field, frozen

from slmbench.datasets._declared import Dataset, Row, Rows
from slmbench.datasets._files import ROW_ENDINGS, read_rows
from slmbench.datasets._hub import hub_rows
from slmbench.datasets._loaded import loaded_rows
from slmbench.datasets._nulls import without_nan
from slmbench.datasets._parts import chosen, parted, with_columns
from slmbench.datasets._types import with_types
from slmbench.errors import DataError, MissingData, UsageError, did_you_mean
from slmbench.paths import mirror_dir, shown
from slmbench.plugins import Plugin, inside_folder
from slmbench.schema import DatasetSpec

REMEMBERED_ROWS = 10_000
"""A generated split of no more rows than this isn't made again by the same process."""
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?=\.)")


def local_source(dataset: Dataset, split: str) -> str | None:
    """Where a split's rows can be had without any network: generated, mirror or file; None for the hub alone.

    Raises DataError if `SLMBENCH_DATA` names no folder.
    """
    if dataset.spec.generated is not None:
        return "generated"
    if dataset.spec.loader is not None:
        return "loader"
    if _mirror_file(dataset, split) is not None:
        return "mirror"
    return "file" if dataset.spec.files is not None else None


def local_files(dataset: Dataset, split: str) -> tuple[list[str], bool]:
    """(files of this machine that a split's rows are in, whether `holdout` still has to part them).

    None of what is generated, of a loader, or in the hub's cache. Raises DataError.
    """
    spec, path = dataset.spec, _mirror_file(dataset, split)
    parts = spec.holdout is not None and split in (spec.holdout.split, spec.holdout.of)
    if path is not None:
        return [path], parts and spec.local is not None
    return (_declared_files(dataset, split) if spec.files is not None else []), parts


def fetch_rows(dataset: Dataset, split: str, *, use_mirror: bool = True, limit: int | None = None) -> Rows:
    """The rows of a split, the first `limit` of them, from the first place that has them; this may download.

    Order: generated; `SLMBENCH_DATA`; a loader; declared files; the hub's local cache; the hub. Local data is in
    `SLMBENCH_DATA` or nowhere. `types`, `where`, `filled` and `holdout` are applied here; a mirror of the hub is parted
    already.
    Raises UsageError (no such split), DataError (columns, types, damaged or empty split), MissingData (nothing has it).
    """
    spec = dataset.spec
    if split not in spec.split_names:
        raise UsageError(f"data set {dataset.name!r} has no split {split!r}{did_you_mean(split, spec.split_names)}")
    if spec.generated is not None:
        return _generated(dataset, split, limit)
    path = _mirror_file(dataset, split) if use_mirror or spec.local is not None else None
    parts = spec.holdout is not None and split in (spec.holdout.split, spec.holdout.of)
    parts = parts and (path is None or spec.local is not None)
    # Where rows are left out, the first n that stay are not among the first n that lie there.
    few = None if spec.where or spec.filled or parts else limit
    if path is not None:
        source, rows, revision = "mirror", read_rows(path, few, spec.read), spec.revision
    elif spec.local is not None:
        raise _local_rows_are_missing(dataset, split)
    elif spec.loader is not None:
        source, revision = "loader", None
        rows = loaded_rows(dataset, spec.holdout.of if parts and spec.holdout is not None else split, few)
    elif spec.files is not None:
        paths = _declared_files(dataset, split)
        path = paths[0] if len(paths) == 1 else None
        source, rows, revision = "file", _of_files(paths, few, dataset), None
    else:
        source, revision = "hub", spec.revision
        rows = hub_rows(dataset, spec.splits[split])[:few]
    where = shown(path) if path else f"data set {dataset.name!r}, split {split!r}"
    kept, left_out, places = _kept(rows, spec, where)
    if parts:
        side = parted(kept, [rows[place] for place in places], spec, split, where)
        kept, places = [kept[number] for number in side], [places[number] for number in side]
    return Rows(dataset.name, split, source, revision, kept[:limit], left_out, places[:limit])


def _kept(rows: list[Row], spec: DatasetSpec, where: str) -> tuple[list[Row], dict[str, int], list[int]]:
    """(the rows that stay, typed and in the declared columns, column -> rows left out, where those that stay lie)."""
    typed = with_types(with_columns(rows, spec, where), spec.types, where)
    places, left_out = chosen(typed, spec, where)
    return [typed[place] for place in places], left_out, places


def sample_rows(dataset: Dataset, path: str, split: str) -> Rows:
    """The golden rows of a task's `samples.jsonl`, standing in for any split."""
    if not os.path.isfile(path):
        raise DataError(f"{shown(path)} is missing; golden rows are what `--data samples` runs on")
    rows, spec = read_rows(path), dataset.spec
    if rows and dataset.replaced is not None and not _fits(rows[0], spec) and _fits(rows[0], dataset.replaced):
        spec = dataset.replaced
    kept, left_out, _ = _kept(rows, spec, shown(path))
    return Rows(dataset.name, split, "samples", None, kept, left_out)


def _fits(row: Row, spec: DatasetSpec) -> bool:
    return set(spec.columns.values() if isinstance(spec.columns, dict) else spec.columns) <= set(row)


def _generated(dataset: Dataset, split: str, limit: int | None = None) -> Rows:
    spec = dataset.spec
    if dataset.plugin is None or not dataset.plugin.has("generate"):
        raise DataError(f"data set {dataset.name!r} is generated, but plugin.py has no generate(split, index, seed)")
    assert spec.generated is not None
    n = spec.generated[split] if limit is None else min(limit, spec.generated[split])
    plugin = dataset.plugin
    if (limit is None or n < limit) and n <= REMEMBERED_ROWS:
        made = _remembered(_Generator(plugin.path, plugin.sha256, plugin), split, spec.seed, n)
        rows = copy.deepcopy([*made])  # A hook may change the lists of its row.
    else:
        rows = [_made(plugin, split, spec.seed, index) for index in range(n)]
    where = f"{shown(dataset.plugin.path)}: generate({split!r}, ...)"
    rows = with_types(with_columns(rows, spec, where), spec.types, where)
    return Rows(dataset.name, split, "generated", f"seed-{spec.seed}", rows)


def _made(plugin: Plugin, split: str, seed: int, index: int) -> Row:
    row: Row = without_nan(plugin.call("generate", split, index, seed, row=index))
    return row


@frozen
class _Generator:
    """A plugin's `generate`, known by its file's place and bytes."""

    path: str
    sha256: str
    plugin: Plugin = field(eq=False)


# A process asks for the same rows again and again: adapters of a recipe, tasks of each evaluation. Not where only some
# are asked for: `check` makes those twice.
@lru_cache(maxsize=16)
def _remembered(generator: _Generator, split: str, seed: int, n: int) -> tuple[Row, ...]:
    return tuple(_made(generator.plugin, split, seed, index) for index in range(n))


def _mirror_file(dataset: Dataset, split: str) -> str | None:
    root, name = mirror_dir(), dataset.name
    # A mirror stands in for the hub; a task's own files are its own, whatever a folder of the mirror is called.
    if root is None or (dataset.spec.hub is None and dataset.spec.local is None):
        return None
    if not os.path.isdir(root):
        raise DataError(f"SLMBENCH_DATA names {root!r}, which is not a folder; unset it or correct it")
    held = dataset.spec.holdout
    if dataset.spec.local is not None:
        if held is not None and _has_file(root, name, held.split):
            raise DataError(
                f"{shown(os.path.join(root, name))} has a file for {held.split!r}, which holdout makes from the rows "
                f"of {held.of!r}; remove one of the two"
            )
        split = held.of if held is not None and split == held.split else split
    elif (
        held is not None and split == held.of and not _has_file(root, name, held.split) and _has_file(root, name, split)
    ):
        raise DataError(
            f"{shown(os.path.join(root, name))} has {split!r} but not {held.split!r}, which is set apart from it: rows "
            f"that are evaluated would be trained on; pull it again, or split the file"
        )
    # Under the hub's name of the split, or the one that tasks use: a mirror that somebody made by hand has the latter.
    stems = [split] if dataset.spec.local is not None else dict.fromkeys((dataset.spec.file_stem(split), split))
    for stem in stems:
        for ending in ROW_ENDINGS:
            path = os.path.join(root, name, stem + ending)
            if os.path.isfile(path):
                return path
    return None


def _has_file(root: str, name: str, stem: str) -> bool:
    return any(os.path.isfile(os.path.join(root, name, stem + ending)) for ending in ROW_ENDINGS)


def _local_rows_are_missing(dataset: Dataset, split: str) -> MissingData:
    columns = dataset.spec.column_names
    theirs = list(dataset.spec.columns.values()) if isinstance(dataset.spec.columns, dict) else columns
    root, held = mirror_dir(), dataset.spec.holdout
    split = held.of if held is not None and split == held.split else split
    place = f"{dataset.name}/{split}.jsonl (or .csv, .parquet)"
    way = (
        f"put {place} with the columns {', '.join(theirs)} into "
        f"{'the folder that SLMBENCH_DATA names' if root is None else shown(root)}"
        + (" and set SLMBENCH_DATA to it" if root is None else "")
    )
    what = f"data set {dataset.name!r} is never fetched: its rows are a file of your own"
    return MissingData(dataset.name, what, pulled=False, way=way)


def _declared_files(dataset: Dataset, split: str) -> list[str]:
    """The paths of a split's files, patterns filled in, in the order of their names. Raises DataError."""
    spec = dataset.spec
    assert spec.files is not None
    held = spec.holdout
    key = held.of if held is not None and split == held.split else split
    given = spec.files[key]
    where = f"data set {dataset.name!r}: files.{key}"
    try:
        paths = [
            path
            for one in ([given] if isinstance(given, str) else given)
            for path in (_matching(dataset.folder, one, where) if glob.has_magic(one) else [one])
        ]
        found = [inside_folder(dataset.folder, path) for path in paths]
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    if len(set(found)) != len(found):
        raise DataError(f"{where}: a file is named twice; its rows would count twice")
    _refuse_missing_shards(found, where)
    return found


def _matching(folder: str, pattern: str, where: str) -> list[str]:
    inside_folder(folder, pattern)
    paths = sorted(glob.glob(pattern, root_dir=folder, recursive=True))
    paths = [path for path in paths if os.path.isfile(os.path.join(folder, path))]
    if not paths:
        raise DataError(f"{where}: no file matches {pattern!r} in {shown(folder)}")
    return paths


def _refuse_missing_shards(paths: Sequence[str], where: str) -> None:
    sets: dict[tuple[str, int], set[int]] = {}
    for path in paths:
        match = _SHARD.search(os.path.basename(path))
        if match is not None:
            key = (_SHARD.sub("", path), int(match[2]))
            sets.setdefault(key, set()).add(int(match[1]))
    for (stem, n), there in sets.items():
        gone = sorted(set(range(n)) - there) if n <= 100_000 else []
        if gone:
            listed = ", ".join(map(str, gone[:5])) + (", ..." if len(gone) > 5 else "")
            raise DataError(f"{where}: {os.path.basename(stem)} lacks {len(gone)} of its {n} parts: number {listed}")


def _of_files(paths: Sequence[str], limit: int | None, dataset: Dataset) -> list[Row]:
    rows: list[Row] = []
    for path in paths:
        rows += read_rows(path, None if limit is None else limit - len(rows), dataset.spec.read)
        if limit is not None and len(rows) >= limit:
            break
    return rows
