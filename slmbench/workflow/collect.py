"""What can go of a store of runs: told first, removed when that is asked for."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from attrs import frozen

from slmbench.console import say
from slmbench.errors import SlmbenchError, UsageError
from slmbench.files import disk_errors, lock
from slmbench.foreign import open_plain
from slmbench.paths import shown
from slmbench.runs import ITEM_SCORES, JOURNAL, comparability_key
from slmbench.workflow.runs import StoredRun, stored_runs

# What was written so shortly before may still be in use.
_SETTLED_S = 3600.0
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp$")
_GONE = ".removed-"


@frozen(kw_only=True)
class CollectPlan:
    """What may go beside leftovers of killed processes. older_than: days since a run was last written to.

    unfinished: runs that were not finished, or failed; their answers so far would be computed again. invalidated: runs
    that somebody has marked so. superseded: finished runs of which a newer one has the same model, adapter, condition
    and seed, or a copy is there.
    """

    paths: tuple[str, ...] = ()
    unfinished: bool = False
    invalidated: bool = False
    superseded: bool = False
    older_than: float = 0.0
    yes: bool = False


@frozen
class Leftover:
    """A file or a run's folder that can go, and why."""

    path: Path
    why: str
    bytes: int


def collect(plan: CollectPlan, default: str) -> tuple[list[Leftover], list[SlmbenchError]]:
    """(what can go, or what has gone if the plan says yes; what could not be removed).

    A run that another process is writing never goes. default: where runs are, if the plan names no path.
    Raises UsageError if a path holds no run at all.
    """
    paths = plan.paths or (default,)
    found = {os.path.realpath(one.path): one for one in _leftovers(plan, paths)}
    done: list[Leftover] = []
    errors: list[SlmbenchError] = []
    for one in found.values():
        if not plan.yes:
            done.append(one)
            continue
        try:
            _remove(one.path)
            done.append(one)
        except SlmbenchError as error:
            errors.append(error)
    return done, errors


def _leftovers(plan: CollectPlan, paths: Sequence[str]) -> Iterator[Leftover]:
    try:
        runs = stored_runs(paths)
    except UsageError:
        # Only what is left of runs may be there.
        runs = []
        if not all(os.path.isdir(path) for path in paths):
            raise
    superseded = _superseded(runs) if plan.superseded else {}
    for run in runs:
        age_s = time.time() - max(entry.lstat().st_mtime for entry in [run.folder, *run.folder.iterdir()])
        why = superseded.get(run.folder)
        if plan.unfinished and run.status in ("unfinished", "error"):
            why = "not finished" if run.status == "unfinished" else "failed"
        if plan.invalidated and run.status == "invalidated":
            why = "invalidated"
        if why is not None and age_s >= plan.older_than * 86_400:
            if _in_use(run.folder):
                say(f"note: {shown(run.folder)}: another process is writing this run; kept")
            else:
                yield Leftover(run.folder, why, run.bytes)
                continue
        yield from _within(run)
    for shelf in {run.folder.parent for run in runs} | set(map(_shelf, paths)):
        yield from _beside(shelf)


def _shelf(path: str) -> Path:
    inside = Path(path) / "runs"
    return inside if inside.is_dir() else Path(path)


def _within(run: StoredRun) -> Iterator[Leftover]:
    """Files of a run's folder that belong to nothing."""
    for entry in sorted(run.folder.iterdir()):
        size = entry.lstat().st_size
        if _TEMPORARY.fullmatch(entry.name) and _settled(entry):
            yield Leftover(entry, "left by a process that was killed", size)
        if run.status == "ok" and entry.name == JOURNAL and not _in_use(run.folder):
            yield Leftover(entry, "the journal of a run that is finished", size)
        if run.status == "ok" and entry.name == ITEM_SCORES and run.record.get("item_scores_sha256") is None:
            yield Leftover(entry, "item scores that the record doesn't know of", size)


def _beside(shelf: Path) -> Iterator[Leftover]:
    """What lies among runs and is none."""
    for entry in sorted(shelf.iterdir()) if shelf.is_dir() else []:
        if entry.is_symlink() or not _settled(entry):
            continue
        if entry.name.startswith(_GONE) and entry.is_dir():
            yield Leftover(entry, "half removed", _size(entry))
        elif entry.is_dir() and shelf.name == "runs" and not any(entry.iterdir()):
            yield Leftover(entry, "an empty folder", 0)


def _superseded(runs: Iterable[StoredRun]) -> dict[Path, str]:
    """Folder -> why, of finished runs that no table shows. Those that others have their answers from stay."""
    finished = [run for run in runs if run.status == "ok"]
    sources = {(run.record.get("rescored_of") or {}).get("run_id") for run in finished}
    newest: dict[object, StoredRun] = {}
    found: dict[Path, str] = {}
    for run in reversed(finished):  # Oldest first as they come.
        model, adapter = run.record["model"], run.record.get("adapter") or {}
        who = (model["name"], model.get("quantization"), model.get("weights_sha256"), adapter.get("name"))
        scorer = run.record.get("scorer") or {}
        how = (adapter.get("sha256"), comparability_key(run.record), run.record.get("seed"), run.record.get("limit"))
        kept = newest.setdefault((*who, *how, scorer.get("id"), scorer.get("version")), run)
        if kept is run:
            continue
        if kept.run_id == run.run_id:
            found[run.folder] = f"a copy of {shown(kept.folder)}"
        elif run.run_id not in sources:
            found[run.folder] = f"{kept.handle} is newer, of the same model, adapter and condition"
    return found


def _settled(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > _SETTLED_S
    except OSError:
        return False


def _size(folder: Path) -> int:
    return sum(entry.lstat().st_size for entry in folder.rglob("*"))


def _in_use(folder: Path) -> bool:
    """Whether another process holds the run's journal."""
    try:
        with open_plain(folder / JOURNAL) as file:
            return not lock(file)
    except OSError:
        return False


def _remove(path: Path) -> None:
    """Raises SlmbenchError. A kill leaves no half of a run, but what the next call removes."""
    with disk_errors(str(path)):
        if not path.is_dir():
            path.unlink()
            return
        gone = path if path.name.startswith(_GONE) else path.with_name(f"{_GONE}{path.name}")
        if gone != path:
            with contextlib.suppress(OSError):
                shutil.rmtree(gone)
            os.replace(path, gone)
        shutil.rmtree(gone)
