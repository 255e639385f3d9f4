"""The store of runs: what is there, whether it is what it claims, and what can go."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from attrs import frozen

from slmbench.catalog import Catalog
from slmbench.console import bar
from slmbench.errors import SlmbenchError, UsageError, did_you_mean
from slmbench.leaderboard import Audit, audit
from slmbench.runs import LEFT_OUT, MetricPart, Run, StoppedPart, located_runs, read_record
from slmbench.values import JsonObject

_DIGEST = re.compile(r"__([0-9a-f]{10})$")


@frozen
class StoredRun:
    """A run as it lies on the disk. status: ok, or as its record says; unfinished without one, damaged if that can't be
    read, with `fault`. bytes: of all its files.
    """

    folder: Path
    run_id: str
    status: str
    record: JsonObject
    bytes: int
    fault: str = ""

    @property
    def handle(self) -> str:
        """What the run can be called: the digits at the end of its id."""
        found = _DIGEST.search(self.run_id)
        return found[1] if found else self.run_id

    @property
    def who(self) -> str:
        model = self.record.get("model") or {}
        adapter = self.record.get("adapter")
        packed = f" ({model['quantization']})" if model.get("quantization") else ""
        return str(model.get("name") or "?") + packed + (f" + {adapter['name']}" if adapter else "")

    @property
    def task(self) -> str:
        return str((self.record.get("task") or {}).get("id") or "?")

    @property
    def how(self) -> str:
        """Format, shots, chain of thought, limit and where it was stopped, if they say something."""
        record = self.record
        shots = (record.get("fewshot") or {}).get("n")
        told = [str(record.get("format") or "")]
        told += [f"{shots} shots"] if shots else []
        told += [f"cot {record['cot']}"] if record.get("cot") not in (None, "off") else []
        told += [f"limit {record['limit']}"] if record.get("limit") is not None else []
        if self.status == "ok" and record.get("stopped"):
            told.append(StoppedPart.model_validate(record["stopped"], extra="ignore").badge)
        return ", ".join(filter(None, told))

    @property
    def first(self) -> MetricPart | None:
        metrics = self.record.get("metrics") if self.status == "ok" else None
        return MetricPart.model_validate(metrics[0], extra="ignore") if metrics else None

    def as_json(self) -> JsonObject:
        """For scripts: the record, where it lies, what it takes, and what is wrong with it."""
        return {
            "run_id": self.run_id,
            "folder": str(self.folder),
            "status": self.status,
            "bytes": self.bytes,
            "fault": self.fault or None,
            "record": self.record or None,
        }


def stored_runs(paths: Sequence[str]) -> list[StoredRun]:
    """Every run under paths, finished or not, oldest first; those without a time come last. Raises UsageError."""
    folders = {real: folder for path in paths for real, folder in located_runs(Path(path))}
    found = [_stored(folder) for folder in folders.values()]
    return sorted(found, key=lambda run: (str(run.record.get("created") or "~"), run.run_id))


def _stored(folder: Path) -> StoredRun:
    size = 0
    for entry in os.scandir(folder):
        if entry.is_file(follow_symlinks=False):
            size += entry.stat(follow_symlinks=False).st_size
    try:
        record = read_record(folder)
    except FileNotFoundError:
        return StoredRun(folder, folder.name, "unfinished", {}, size)
    except SlmbenchError as error:
        return StoredRun(folder, folder.name, "damaged", {}, size, str(error).split("\n")[0])
    status = str(record["status"])
    if status == "started":
        status = "unfinished"
    if status in LEFT_OUT or status == "unfinished":
        record = _sound(record)
    return StoredRun(folder, str(record.get("run_id") or folder.name), status, record, size)


def _sound(record: JsonObject) -> JsonObject:
    """Of a record that no model holds: its fields that are what they have to be for a list."""
    kinds: dict[str, type] = {"model": dict, "adapter": dict, "task": dict, "fewshot": dict}
    kept = {key: value for key, value in record.items() if isinstance(value, kinds.get(key, object))}
    adapter = kept.get("adapter")
    if isinstance(adapter, dict) and not isinstance(adapter.get("name"), str):
        del kept["adapter"]
    return kept


def find_run(name: str, runs: Iterable[StoredRun]) -> StoredRun:
    """The run of an id, of its last digits or of a part that is of no other. Raises UsageError."""
    known = list(runs)
    for matches in (
        [run for run in known if name in (run.run_id, run.handle, run.folder.name)],
        [run for run in known if run.handle.startswith(name)],
        [run for run in known if name in run.run_id],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            listed = ", ".join(run.run_id for run in matches[:5]) + (", ..." if len(matches) > 5 else "")
            raise UsageError(f"{name!r} is {len(matches)} runs: {listed}; give more of the id")
    raise UsageError(
        f"no run {name!r}{did_you_mean(name, [*(run.run_id for run in known), *(run.handle for run in known)])}"
    )


def verify_runs(paths: Sequence[str], catalog: Catalog) -> list[Audit]:
    """Every run under paths, looked at whole. Raises UsageError for a path without runs."""
    folders = {real: folder for path in paths for real, folder in located_runs(Path(path))}
    others = {folder.name: folder for folder in folders.values()}
    done = []
    with bar("verify", len(folders), "runs") as progress:
        for folder in folders.values():
            done.append(audit(folder, catalog, others))
            progress.advance(1)
    return done


def told_size(n_bytes: float) -> str:
    """Bytes as people read them: 3.2 MB."""
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" or n_bytes >= 100 else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} GB"


def samples_of(run: StoredRun, item: str) -> list[JsonObject]:
    """An item's samples, one an epoch. Raises UsageError for an item that the run doesn't have, FileError."""
    samples = Run(str(run.folder), run.record).samples() if run.status == "ok" else []
    found = [sample for sample in samples if sample["item_id"] == item]
    if not found:
        ids = list(dict.fromkeys(sample["item_id"] for sample in samples))
        raise UsageError(f"{run.run_id}: no item {item!r}{did_you_mean(item, ids)}")
    return found


def facts_of(run: StoredRun) -> list[tuple[str, str]]:
    """(dotted field, what it says) of a record beside its metrics; digests by their first digits."""
    left_out = {"metrics", "packages", "remarks", "run_id", "status"}
    facts = _leaves({key: value for key, value in run.record.items() if key not in left_out})
    remarks = run.record.get("remarks")
    told = remarks.items() if isinstance(remarks, dict) else ()
    return [("run_id", run.run_id), *facts, *(("remark", f"{text}: {count} samples") for text, count in told)]


def _leaves(value: object, at: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [leaf for key, part in value.items() for leaf in _leaves(part, f"{at}.{key}" if at else str(key))]
    if value is None or value in ({}, []):
        return []
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return [(at, f"{text[:16]}..." if re.fullmatch("[0-9a-f]{64}", text) else text)]
