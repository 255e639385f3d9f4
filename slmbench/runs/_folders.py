"""Where runs lie: the run folders that a path means."""

from __future__ import annotations

import os
from pathlib import Path

from slmbench.errors import UsageError
from slmbench.runs._versions import RECORD, SAMPLES

JOURNAL = "responses.jsonl"


def run_folders(path: Path) -> list[Path]:
    """The run folders that path means: an output folder's, a folder's of runs, one run's, or that of its run.json.

    Raises UsageError if there are none.
    """
    return [folder for _, folder in located_runs(path)]


def located_runs(path: Path) -> list[tuple[str, Path]]:
    """(its real path, the folder) of every run that a path means. Raises UsageError if there are none."""
    if not path.exists():
        raise UsageError(f"{path}: no such folder; give a folder that `slmbench eval --out` has written to")
    if path.name == RECORD and path.is_file():
        path = path.parent
    if (path / RECORD).is_file():
        return [(os.path.realpath(path), path)]
    parent = path / "runs" if (path / "runs").is_dir() else path
    try:
        entries = sorted(os.scandir(parent), key=lambda entry: entry.name) if parent.is_dir() else []
    except OSError as error:
        raise UsageError(f"{parent}: can't be read: {error.strerror}") from error
    real = os.path.realpath(parent)
    found = [
        (os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(real, entry.name), parent / entry.name)
        for entry in entries
        if _is_run(entry)
    ]
    if not found:
        raise UsageError(
            f"{path}: no runs here (runs/<run_id>/run.json); `slmbench eval MODEL --tasks a,b --out {path}` makes some"
        )
    return found


def _is_run(entry: os.DirEntry[str]) -> bool:
    # A folder with only samples or journalled responses is a run that died early, which is told. A hidden one is none.
    if entry.name.startswith("."):
        return False
    return entry.is_dir() and any(os.path.exists(os.path.join(entry.path, mark)) for mark in (RECORD, SAMPLES, JOURNAL))
