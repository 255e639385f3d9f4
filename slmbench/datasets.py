"""Rows: from a mirror, a file, the hub, a generator or the golden samples; columns checked, content fingerprinted."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterable
from typing import Any

from attrs import frozen

from slmbench.catalog import Catalog
from slmbench.errors import DataError, DeclarationError, OfflineError, UsageError, did_you_mean
from slmbench.formats import FormatFault
from slmbench.formats.toon import decode_toon
from slmbench.hub import use_cache_alone
from slmbench.paths import hub_is_offline, mirror_dir, shown
from slmbench.plugins import Plugin, inside_folder
from slmbench.schema import DatasetSpec, parse
from slmbench.yamlfile import read_yaml

Row = dict[str, Any]


@frozen
class Dataset:
    """A declared data set. folder: where relative files are looked up. plugin: makes the rows of generated splits.

    replaced: the declaration that this one stands in for; golden rows may be in the columns of either.
    """

    name: str
    spec: DatasetSpec
    folder: str
    plugin: Plugin | None = None
    replaced: DatasetSpec | None = None


@frozen
class Rows:
    """The rows of one split, in the columns that tasks see. source: mirror, file, hub, generated or samples."""

    dataset: str
    split: str
    source: str
    revision: str | None
    rows: list[Row]

    @property
    def content_sha256(self) -> str:
        """The digest of the rows as canonical JSON, the same whatever file or service they came from."""
        return digest_rows(self.rows)


def digest_rows(rows: Iterable[Any]) -> str:
    """sha256 over the canonical JSON of rows, one a line."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def load_dataset_spec(catalog: Catalog, name: str) -> Dataset:
    """The data set that the registry knows by a name. Raises UsageError or DeclarationError."""
    path = catalog.find("datasets", name)
    document = read_yaml(path)
    spec = parse(DatasetSpec, document)
    if spec.generated is not None:
        problem = document.problem(("generated",), "generated rows need a task's plugin; declare them in task.yaml")
        raise DeclarationError([problem])
    original = catalog.replaced("datasets", name)
    replaced = parse(DatasetSpec, read_yaml(original)) if original is not None else None
    return Dataset(name, spec, os.path.dirname(path), replaced=replaced)


def local_source(dataset: Dataset, split: str) -> str | None:
    """Where a split's rows can be had without any network: generated, mirror or file; None for the hub alone.

    Raises DataError where `SLMBENCH_DATA` names no folder.
    """
    if dataset.spec.generated is not None:
        return "generated"
    if _mirror_file(dataset, split) is not None:
        return "mirror"
    return "file" if dataset.spec.files is not None else None


def fetch_rows(dataset: Dataset, split: str, *, use_mirror: bool = True, limit: int | None = None) -> Rows:
    """The rows of a split, the first `limit` of them, from the first place that has them; this may download.

    Order: generated; `SLMBENCH_DATA`; a declared file; the hub's local cache; the hub. Local data is in
    `SLMBENCH_DATA` or nowhere. `where` and `holdout` are applied here; a mirror's files are parted already.
    Raises UsageError (no such split), DataError (columns, damaged or empty split), OfflineError (nothing has it).
    """
    spec = dataset.spec
    if split not in spec.split_names:
        raise UsageError(f"data set {dataset.name!r} has no split {split!r}{did_you_mean(split, spec.split_names)}")
    if spec.generated is not None:
        return _generated(dataset, split, limit)
    path = _mirror_file(dataset, split) if use_mirror or spec.local is not None else None
    # Where rows are left out, the first n that stay are not among the first n that lie there.
    few = None if spec.where else limit
    if path is not None:
        source, rows, revision = "mirror", read_rows(path, few), spec.revision
    elif spec.local is not None:
        raise OfflineError(_where_local_rows_belong(dataset, split))
    elif spec.files is not None:
        path = _declared_file(dataset, split)
        source, rows, revision = "file", read_rows(path, few), None
    else:
        source, revision = "hub", spec.revision
        rows = _hub_rows(dataset, spec.splits[split])[: None if spec.holdout else few]
    where = shown(path) if path else f"data set {dataset.name!r}, split {split!r}"
    rows = _only_where(_with_columns(rows, spec, where), spec, where)
    if source == "hub":
        rows = _parted(rows, spec, split, where)
    return Rows(dataset.name, split, source, revision, rows[:limit])


def sample_rows(dataset: Dataset, path: str, split: str) -> Rows:
    """The golden rows of a task's `samples.jsonl`, standing in for any split."""
    if not os.path.isfile(path):
        raise DataError(f"{shown(path)} is missing; golden rows are what `--data samples` runs on")
    rows, spec = read_rows(path), dataset.spec
    if rows and dataset.replaced is not None and not _fits(rows[0], spec) and _fits(rows[0], dataset.replaced):
        spec = dataset.replaced
    return Rows(
        dataset.name, split, "samples", None, _only_where(_with_columns(rows, spec, shown(path)), spec, shown(path))
    )


def _fits(row: Row, spec: DatasetSpec) -> bool:
    return set(spec.columns.values() if isinstance(spec.columns, dict) else spec.columns) <= set(row)


def read_rows(path: str, limit: int | None = None) -> list[Row]:
    """The first `limit` rows of a `.jsonl`, `.parquet` or `.toon` file. Raises DataError naming what is no row."""
    if path.endswith(".parquet"):
        return _parquet_rows(path, limit)
    if path.endswith(".toon"):
        return _toon_rows(path, limit)
    rows: list[Row] = []
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if limit is not None and len(rows) >= limit:
                    break
                if line.strip():
                    rows.append(_row(line, f"{shown(path)}:{number}"))
    except OSError as error:
        raise DataError(f"{shown(path)}: can't be read: {error.strerror}") from error
    return rows


def _row(line: bytes, where: str) -> Row:
    try:
        text = line.rstrip(b"\r\n").decode("utf-8-sig")
        row = json.loads(text)
        if "\\u" in text:
            json.dumps(row, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise DataError(f"{where}:{error.colno}: not JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 at byte {error.start + 1} of the line; save the file as UTF-8") from error
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: holds half a character (a lone surrogate), which no tokenizer reads") from error
    except (RecursionError, ValueError) as error:  # Nested too deeply, or a number of thousands of digits.
        raise DataError(f"{where}: can't be read as JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object, got {type(row).__name__}")
    return row


def _parquet_rows(path: str, limit: int | None) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    rows: list[Row] = []
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                rows += batch.to_pylist()
                if limit is not None and len(rows) >= limit:
                    break
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{shown(path)}: not a readable Parquet file: {str(error)[:200]}") from error
    return rows[:limit]


def _toon_rows(path: str, limit: int | None) -> list[Row]:
    """The rows of a Toon document: an array of objects, alone or as the one key `rows`, as `data export` writes it."""
    try:
        with open(path, "rb") as file:
            value = decode_toon(file.read().decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{shown(path)}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{shown(path)}: not UTF-8 at byte {error.start + 1}; save the file as UTF-8") from error
    except FormatFault as error:
        raise DataError(f"{shown(path)}: {error}") from error
    rows = value.get("rows") if isinstance(value, dict) and len(value) == 1 else value
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{shown(path)}: expected a table of rows, as in `rows[2]{{question,answer}}:`")
    return rows[:limit]


def _generated(dataset: Dataset, split: str, limit: int | None = None) -> Rows:
    spec = dataset.spec
    if dataset.plugin is None or not dataset.plugin.has("generate"):
        raise DataError(f"data set {dataset.name!r} is generated, but plugin.py has no generate(split, index, seed)")
    assert spec.generated is not None
    n = spec.generated[split] if limit is None else min(limit, spec.generated[split])
    rows = [dataset.plugin.call("generate", split, index, spec.seed, row=index) for index in range(n)]
    where = f"{shown(dataset.plugin.path)}: generate({split!r}, ...)"
    return Rows(dataset.name, split, "generated", f"seed-{spec.seed}", _with_columns(rows, spec, where))


def _mirror_file(dataset: Dataset, split: str) -> str | None:
    root, name = mirror_dir(), dataset.name
    # A mirror stands in for the hub; a task's own files are its own, whatever a folder of the mirror is called.
    if root is None or (dataset.spec.hub is None and dataset.spec.local is None):
        return None
    if not os.path.isdir(root):
        raise DataError(f"SLMBENCH_DATA names {root!r}, which is no folder; unset it or correct it")
    held = dataset.spec.holdout
    if held is not None and split == held.of and not _has_file(root, name, held.split) and _has_file(root, name, split):
        raise DataError(
            f"{shown(os.path.join(root, name))} has {split!r} but not {held.split!r}, which is set apart from it: rows "
            f"that are evaluated would be trained on; pull it again, or part the file"
        )
    # Under the hub's name of the split, or the one that tasks use: a mirror that somebody made by hand has the latter.
    for stem in dict.fromkeys((dataset.spec.file_stem(split), split)):
        for ending in (".jsonl", ".parquet"):
            path = os.path.join(root, name, stem + ending)
            if os.path.isfile(path):
                return path
    return None


def _has_file(root: str, name: str, stem: str) -> bool:
    return any(os.path.isfile(os.path.join(root, name, stem + ending)) for ending in (".jsonl", ".parquet"))


def _where_local_rows_belong(dataset: Dataset, split: str) -> str:
    columns = dataset.spec.column_names
    theirs = list(dataset.spec.columns.values()) if isinstance(dataset.spec.columns, dict) else columns
    root = mirror_dir()
    place = f"{dataset.name}/{split}.jsonl (or .parquet)"
    return (
        f"data set {dataset.name!r} is never fetched: its rows are a file of your own. Put {place} with the columns "
        f"{', '.join(theirs)} into {'the folder that SLMBENCH_DATA names' if root is None else shown(root)}"
        + (", and set SLMBENCH_DATA to it" if root is None else "")
        + "; or try the task's golden rows with `--data samples`"
    )


def _declared_file(dataset: Dataset, split: str) -> str:
    assert dataset.spec.files is not None
    try:
        return inside_folder(dataset.folder, dataset.spec.files[split])
    except ValueError as error:
        raise DataError(f"data set {dataset.name!r}: files.{split}: {error}") from error


def _hub_rows(dataset: Dataset, split: str) -> list[Row]:
    spec = dataset.spec
    ways = (
        f"pull it on a connected machine with `slmbench data pull {dataset.name} --to DIR` and set SLMBENCH_DATA=DIR, "
        "or try the task's golden rows with `--data samples`"
    )
    what = f"data set {dataset.name!r} ({spec.hub}, split {split!r})"
    try:
        import datasets
    except ImportError as error:
        raise OfflineError(f"{what}: the `datasets` package is missing; {ways}") from error
    offline = use_cache_alone()
    download = datasets.DownloadConfig(max_retries=1, local_files_only=offline)
    datasets.disable_progress_bars() if offline else None
    asked_offline = datasets.config.HF_HUB_OFFLINE
    # Read once, at import; set here, the cache is asked at once instead of after half a minute of retries.
    datasets.config.HF_HUB_OFFLINE = offline or asked_offline
    try:
        loaded = datasets.load_dataset(
            spec.hub, spec.config, split=split, revision=spec.revision, download_config=download
        )
        return [dict(row) for row in loaded]
    except Exception as error:  # httpx, aiohttp, fsspec, pyarrow and hub errors come through; they share no base.
        said = f"{type(error).__name__}: {str(error)[:200]}"
        if isinstance(error, ValueError) and ("split" in str(error).lower() or "BuilderConfig" in str(error)):
            raise DataError(f"{what}: {error}") from error
        if hub_is_offline():
            reason = "is not in the local cache, and HF_HUB_OFFLINE is set"
        elif offline:
            reason = "is not in the local cache, and the hub can't be reached from here"
        else:
            reason = "could not be had from the hub"
        raise OfflineError(f"{what} {reason}; {ways}. ({said})") from error
    finally:
        datasets.config.HF_HUB_OFFLINE = asked_offline


def _only_where(rows: list[Row], spec: DatasetSpec, where: str) -> list[Row]:
    for column, wanted in spec.where.items():
        values = wanted if isinstance(wanted, list) else [wanted]
        if column not in rows[0]:
            there = ", ".join(sorted(rows[0]))
            raise DataError(f"{where}: where names {column!r}, which the rows lack; the columns are: {there}")
        # Where no columns are declared, rows need not be alike.
        kept = [row for row in rows if any(_is_same(row.get(column), value) for value in values)]
        if not kept:
            there = sorted({str(row.get(column)) for row in rows})
            listed = ", ".join(there[:20]) + (", ..." if len(there) > 20 else "")
            raise DataError(f"{where}: no row has {column} {' or '.join(map(repr, values))}; there are: {listed}")
        rows = kept
    return rows


def _is_same(value: Any, wanted: str | int | bool) -> bool:
    # To Python, 1 is the same as True.
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _parted(rows: list[Row], spec: DatasetSpec, split: str, where: str) -> list[Row]:
    """The held-out rows, or what is left without them and without rows that are the same as one of them."""
    held = spec.holdout
    if held is None or split not in (held.split, held.of):
        return rows
    if held.rows >= len(rows):
        raise DataError(f"{where}: holdout takes {held.rows} rows of {len(rows)}; declare fewer")
    drawn = set(random.Random(held.seed).sample(range(len(rows)), held.rows))
    if split == held.split:
        return [row for number, row in enumerate(rows) if number in drawn]
    same = {digest_rows([rows[number]]) for number in drawn}
    rest = [row for number, row in enumerate(rows) if number not in drawn and digest_rows([row]) not in same]
    if not rest:
        raise DataError(f"{where}: every row is the same as one that holdout takes; nothing is left")
    return rest


def _with_columns(rows: list[Row], spec: DatasetSpec, where: str) -> list[Row]:
    if not rows:
        raise DataError(f"{where}: the split is empty; a split has at least one row")
    wanted = spec.columns if isinstance(spec.columns, dict) else {name: name for name in spec.columns}
    missing = sorted({theirs for theirs in wanted.values() if theirs not in rows[0]})
    if missing:
        there = ", ".join(sorted(rows[0]))
        ours = next(name for name, theirs in wanted.items() if theirs == missing[0])
        way = f"; say which it is, as in `columns: {{{ours}: NAME}}`" if spec.generated is None else ""
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
