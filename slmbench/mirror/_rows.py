"""Data sets in a mirror: `<data set>/<split>.jsonl`, with the hub's names of splits and columns, and checksums."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from attrs import evolve, frozen
from pydantic import Field

from slmbench.catalog import Catalog
from slmbench.console import say
from slmbench.datasets import ROW_ENDINGS, Dataset, Row, fetch_rows, load_dataset_spec, numbered_values
from slmbench.errors import DataError, FileError, Problem, UsageError, did_you_mean
from slmbench.files import json_bytes, write_together
from slmbench.foreign import Count, Foreign, SchemaOne, read_model
from slmbench.hub import hub_is_offline
from slmbench.paths import MODELS, shown
from slmbench.schema import DatasetSpec
from slmbench.seal import canonical_sha256

CHECKSUMS = "checksums.json"
SCHEMA = 1
PROBLEMS_A_FILE = 5
_COMMIT = re.compile(r"[0-9a-f]{40}")
_AGAIN = "pull the data set again"


class _Listed(Foreign):
    """A file of a mirror. bytes: as it lies there."""

    sha256: str
    rows: Count
    bytes: Count


class _Checksums(Foreign):
    """`checksums.json`: of what a mirror's folder is, and its files. declaration: what they were made after."""

    version: SchemaOne = Field(alias="schema")
    dataset: str
    hub: str | None
    config: str | list[str] | None
    revision: str | None
    declaration: str | None = None
    files: dict[str, _Listed]


@frozen
class MirrorReport:
    """What `verify` found. files: how many row files were read. notices: what could not be verified, and why."""

    problems: tuple[Problem, ...]
    notices: tuple[str, ...]
    files: int

    @property
    def ok(self) -> bool:
        return not self.problems


def pull(names: Iterable[str], to: str, catalog: Catalog) -> list[str]:
    """Fetches data sets of the hub, every declared split of each, and writes them into a mirror; returns the paths.

    Only declared columns are written. A data set's files are written when all of its splits are there, all or none of
    them. A line is said for each split. Raises UsageError for a name that isn't a data set of the hub and for files in
    the way that were not written here; OfflineError or DataError as `fetch_rows` does.
    """
    return pull_datasets([load_dataset_spec(catalog, name) for name in dict.fromkeys(names)], to)


def pull_datasets(datasets: Sequence[Dataset], to: str) -> list[str]:
    """`pull`, of data sets that were looked up already."""
    for dataset in datasets:
        if dataset.spec.hub is None:
            why = "never fetched: its rows are a file of your own" if dataset.spec.local else "made of files beside it"
            raise UsageError(f"data set {dataset.name!r} is {why}; nothing to pull")
        _refuse_foreign_files(dataset, os.path.join(to, dataset.name))
    written: list[str] = []
    for number, dataset in enumerate(datasets):
        try:
            written += _pull_one(dataset, os.path.join(to, dataset.name))
        except KeyboardInterrupt:
            whole = ", ".join(one.name for one in datasets[:number])
            say(
                f"{dataset.name}: interrupted; none of its files was replaced"
                + (f"; whole in {shown(to)}: {whole}" * bool(whole))
            )
            raise
    return written


def _pull_one(dataset: Dataset, folder: str) -> list[str]:
    spec = dataset.spec
    commit = _commit_of(str(spec.hub), spec.revision)
    if commit is not None:
        # What is written down as the revision is then what is fetched, whatever is pushed in the meantime.
        dataset = evolve(dataset, spec=spec.model_copy(update={"revision": commit}))
        if _is_there(dataset, folder):
            say(f"{dataset.name}: there already, commit {commit[:12]}")
            return [os.path.join(folder, f"{stem}.jsonl") for stem in _file_stems(dataset)] + [
                os.path.join(folder, CHECKSUMS)
            ]
    contents: dict[str, tuple[bytes, int]] = {}
    for split in spec.splits:
        stem = spec.file_stem(split)
        if f"{stem}.jsonl" in contents:
            continue
        rows = fetch_rows(dataset, split, use_mirror=False).rows
        contents[f"{stem}.jsonl"] = (_as_lines(dataset, stem, rows), len(rows))
        say(f"{dataset.name}: {stem}, {len(rows):,} rows")
    files = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "rows": n, "bytes": len(data)}
        for name, (data, n) in contents.items()
    }
    checksums = {
        "schema": SCHEMA,
        "dataset": dataset.name,
        "hub": spec.hub,
        "config": spec.config,
        "revision": commit or spec.revision,
        "license": spec.license,
        "declaration": _declaration(spec),
        "files": files,
    }
    # The checksums are renamed first: files that they don't list would be taken for somebody else's.
    texts = {CHECKSUMS: json_bytes(checksums)} | {name: data for name, (data, _) in contents.items()}
    write_together({os.path.join(folder, name): data for name, data in texts.items()})
    return [os.path.join(folder, name) for name in (*contents, CHECKSUMS)]


def _declaration(spec: DatasetSpec) -> str:
    """What a mirror's rows depend on beside the commit: columns, which rows are left out or held out, types."""
    return canonical_sha256(spec.model_dump(mode="json", exclude={"revision", "license"}))


def _is_there(dataset: Dataset, folder: str) -> bool:
    """Whether a folder holds all of a data set, of its commit, made after the declaration as it is now."""
    try:
        listed = read_model(os.path.join(folder, CHECKSUMS), _Checksums)
    except (OSError, FileError):
        return False
    if (listed.revision, listed.declaration) != (dataset.spec.revision, _declaration(dataset.spec)):
        return False
    problems: list[Problem] = []
    notices: list[str] = []
    _verify_one(dataset, folder, problems, notices)
    return not problems


def verify(
    folder: str, catalog: Catalog, names: Iterable[str] | None = None, datasets: Sequence[Dataset] = ()
) -> MirrorReport:
    """Reads a mirror through: checksums, sizes, row counts, JSON, declared columns, files missing or too many.

    names: the data sets to look at, all folders unless given. datasets: which have to be there, beside what is. A
    folder without checksums.json has its columns checked only, and a notice says so. Raises UsageError if the mirror is
    not a folder, or a name is not a data set.
    """
    if not os.path.isdir(folder):
        raise UsageError(
            f"{shown(folder)} is not a folder; `slmbench data pull NAME --to {shown(folder)}` makes a mirror"
        )
    known = catalog.files("datasets")
    there = sorted(child.name for child in os.scandir(folder) if child.is_dir() and not child.name.startswith("."))
    problems: list[Problem] = []
    notices: list[str] = []
    wanted = list(dict.fromkeys(names or ()))
    for name in wanted:
        if name not in known:
            raise UsageError(f"unknown dataset {name!r}{did_you_mean(name, known)}")
        if name not in there:
            problems.append(Problem(shown(os.path.join(folder, name)), 0, 0, "is missing from the mirror"))
    needed = {dataset.name: dataset for dataset in datasets}
    for name in needed.keys() - set(there):
        problems.append(Problem(shown(os.path.join(folder, name)), 0, 0, "is missing from the mirror"))
    strangers = [] if wanted else [name for name in there if name not in known and name not in (*needed, MODELS)]
    if strangers:
        notices.append(f"no data sets of the registry, so not checked: {', '.join(strangers)}")
    chosen = [name for name in (wanted or there) if (name in known or name in needed) and name in there]
    if not chosen and not problems and MODELS not in there:
        notices.append(f"{shown(folder)} has no data set of the registry")
    files = 0
    for name in chosen:
        dataset = needed.get(name) or load_dataset_spec(catalog, name)
        files += _verify_one(dataset, os.path.join(folder, name), problems, notices)
    return MirrorReport(tuple(problems), tuple(notices), files)


def _verify_one(dataset: Dataset, folder: str, problems: list[Problem], notices: list[str]) -> int:
    present = sorted(child.name for child in os.scandir(folder) if not child.name.startswith("."))
    checksums_path = os.path.join(folder, CHECKSUMS)
    if not os.path.isfile(checksums_path):
        notices.append(f"{shown(folder)}: not written by `data pull` (no {CHECKSUMS}); columns checked only")
        found = [name for name in present if name.endswith(ROW_ENDINGS)]
        for split in _file_stems(dataset):
            if not any(name.startswith(f"{split}.") for name in found):
                notices.append(f"{shown(folder)}: no file for split {split!r}")
        for name in found:
            _read_checked(dataset, os.path.join(folder, name), problems)
        return len(found)
    listed = _read_checksums(dataset, checksums_path, problems)
    if listed is None:
        return 0
    for name in (f"{split}.jsonl" for split in _file_stems(dataset)):
        if name not in listed:
            problems.append(
                Problem(shown(checksums_path), 0, 0, f"does not list {name!r}, which is declared; pull it again")
            )
    for name in present:
        if name != CHECKSUMS and name not in listed:
            problems.append(Problem(shown(os.path.join(folder, name)), 0, 0, f"is not in {CHECKSUMS}; remove it"))
    for name, wanted in listed.items():
        _verify_file(dataset, os.path.join(folder, name), wanted, problems)
    return len(listed)


def _verify_file(dataset: Dataset, path: str, wanted: _Listed, problems: list[Problem]) -> None:
    def fault(message: str) -> None:
        problems.append(Problem(shown(path), 0, 0, message))

    try:
        data = Path(path).read_bytes()
    except OSError as error:
        fault(f"is in {CHECKSUMS}, but can't be read: {error.strerror}")
        return
    digest = hashlib.sha256(data).hexdigest()
    if len(data) != wanted.bytes:
        fault(f"has {len(data):,} bytes, not {wanted.bytes:,}; copy it again")
    elif digest != wanted.sha256:
        fault(f"has sha256 {digest[:12]}..., not {wanted.sha256[:12]}...; copy it again")
    n = _read_checked(dataset, path, problems)
    if n is not None and n != wanted.rows:
        fault(f"has {n:,} rows, not {wanted.rows:,}; copy it again")


def _read_checksums(dataset: Dataset, path: str, problems: list[Problem]) -> dict[str, _Listed] | None:
    def fault(message: str) -> None:
        problems.append(Problem(shown(path), 0, 0, message))

    try:
        found = read_model(path, _Checksums)
    except FileError as error:
        problems += [Problem(one.path, one.line, one.column, f"{one.message}; {_AGAIN}") for one in error.problems]
        return None
    except OSError as error:
        fault(f"can't be read: {error.strerror}")
        return None
    # A name from outside must not lead out of the folder.
    good = {name: listed for name, listed in found.files.items() if not leads_away(name)}
    for name in found.files.keys() - good.keys():
        fault(f"lists {name!r}, which is not a file's name")
    spec = dataset.spec
    for key, said, declared in (
        ("dataset", found.dataset, dataset.name),
        ("hub", found.hub, spec.hub),
        ("config", found.config, spec.config),
    ):
        if said != declared:
            fault(f"is for {key} {said!r}; the declaration has {declared!r}")
    if spec.revision and _COMMIT.fullmatch(spec.revision) and found.revision != spec.revision:
        fault(f"is for revision {found.revision!r}; the declaration has {spec.revision!r}")
    return good


def leads_away(name: str) -> bool:
    """Whether a name from outside is not that of a file right here."""
    return name != os.path.basename(name) or name in ("", ".", "..") or "\\" in name or "\0" in name


def _read_checked(dataset: Dataset, path: str, problems: list[Problem]) -> int | None:
    """The number of rows, with a problem for each line that is not a row; None for an unreadable file."""
    columns = dataset.spec.columns
    wanted = list(columns.values()) if isinstance(columns, dict) else list(columns)
    n = 0
    faults: list[Problem] = []
    try:
        for line, row in numbered_values(path, dataset.spec.read):
            n += 1
            if isinstance(row, DataError):
                faults.append(_of_line(path, line, row))
            elif not isinstance(row, dict):
                faults.append(Problem(shown(path), line, 1, f"expected a JSON object, got {type(row).__name__}"))
            elif any(column not in row for column in wanted):
                missing = ", ".join(repr(column) for column in wanted if column not in row)
                faults.append(
                    Problem(shown(path), line, 1, f"no column {missing}; there are: {', '.join(sorted(row))}")
                )
    except DataError as error:
        problems.append(_of_line(path, 0, error))
        return None
    problems += faults[:PROBLEMS_A_FILE]
    if len(faults) > PROBLEMS_A_FILE:
        problems.append(Problem(shown(path), 0, 0, f"{len(faults) - PROBLEMS_A_FILE:,} more lines like these"))
    if n == 0:
        problems.append(Problem(shown(path), 0, 0, "has no rows"))
    return n


def _file_stems(dataset: Dataset) -> list[str]:
    return list(dict.fromkeys(dataset.spec.file_stem(split) for split in dataset.spec.split_names))


def _of_line(path: str, line: int, error: DataError) -> Problem:
    """A reader's error as a problem of its place, which its message begins with."""
    match = re.match(r":(\d+)(?::(\d+))?: ", str(error).removeprefix(shown(path)))
    if match is None:
        return Problem(shown(path), line, 1 if line else 0, str(error).removeprefix(f"{shown(path)}: "))
    message = str(error)[len(shown(path)) + match.end() :]
    return Problem(shown(path), int(match[1]), int(match[2] or 1), message)


def _as_lines(dataset: Dataset, split: str, rows: list[Row]) -> bytes:
    """The rows as JSON Lines, under the hub's column names."""
    columns = dataset.spec.columns
    theirs = columns if isinstance(columns, dict) else {}
    lines = []
    for number, row in enumerate(rows):
        try:
            named = {theirs.get(name, name): value for name, value in row.items()}
            lines.append(json.dumps(named, ensure_ascii=True, allow_nan=False, default=_plain) + "\n")
        except (TypeError, ValueError) as error:
            where = f"data set {dataset.name!r}, split {split!r}, row {number}"
            raise DataError(f"{where}: can't be written as JSON: {error}; leave that column undeclared") from error
    return "".join(lines).encode()


def _plain(value: object) -> str:
    # As the digest of rows spells them, so that a mirror has the digest of the hub's rows.
    if isinstance(value, (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID)):
        return str(value)
    raise TypeError(f"a value of type {type(value).__name__}")


def _commit_of(hub: str, revision: str | None) -> str | None:
    """The commit that a revision of a data set is now, or None if the hub doesn't say."""
    if revision and _COMMIT.fullmatch(revision):
        return revision
    if hub_is_offline():
        return None
    try:
        from huggingface_hub import HfApi

        sha = HfApi().dataset_info(hub, revision=revision, timeout=10.0).sha
    except Exception:  # Offline, gated, gone: fetching the rows says it better.
        return None
    return str(sha) if sha else None


def _refuse_foreign_files(dataset: Dataset, folder: str) -> None:
    """Raises UsageError if a file would be overwritten that an earlier pull didn't write."""
    listed: Mapping[str, _Listed] = {}
    with contextlib.suppress(OSError, FileError):
        listed = read_model(os.path.join(folder, CHECKSUMS), _Checksums).files
    for split in _file_stems(dataset):
        path = os.path.join(folder, f"{split}.jsonl")
        if os.path.lexists(path) and os.path.basename(path) not in listed:
            raise UsageError(f"{shown(path)} was not written by `data pull`; move it away, or choose another --to")
