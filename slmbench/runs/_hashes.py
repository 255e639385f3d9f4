"""Digests of many runs' samples, made by threads; and an index of those made before, which is only a cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Self

from attrs import frozen

from slmbench.errors import FileError, Problem
from slmbench.foreign import open_plain
from slmbench.paths import cache_dir
from slmbench.runs._versions import RECORD, SAMPLES
from slmbench.values import JsonObject

_CHUNK_BYTES = 1 << 20
# A file that was changed so shortly before may be changed again within the same tick of its clock.
_SETTLED_NS = 2_000_000_000
_MOST_ENTRIES = 200_000
_TABLE = "CREATE TABLE IF NOT EXISTS hashes (file TEXT PRIMARY KEY, state TEXT NOT NULL, sha256 TEXT NOT NULL)"


@frozen
class FileState:
    """What of a file is another one if its bytes were changed: its place on the disk, size and times."""

    file: str
    state: str
    changed_ns: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Self:
        state = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
        return cls(f"{stat.st_dev}:{stat.st_ino}", state, max(stat.st_mtime_ns, stat.st_ctime_ns))


class SampleHashes:
    """Holds samples.jsonl of many runs to the digests in their records, several at once.

    A file whose place, size, time of change and time of inode change are those of an earlier call isn't read again:
    the user's cache folder has its digest. Without such a folder, or if it can't be used, every file is read.
    index: False reads every file, and neither asks the cache nor adds to it.

        with SampleHashes() as hashes:
            checks = [hashes.begin(folder, record) for folder, record in runs]
            for check in checks:
                check()                                 # Raises FileError
    """

    def __init__(self, *, index: bool = True) -> None:
        self._index: sqlite3.Connection | None = None
        self._uses_index = index
        self._made: list[Future[tuple[str, FileState | None]]] = []

    def __enter__(self) -> Self:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(min(8, cores), "hash")
        if self._uses_index:
            with contextlib.suppress(OSError, sqlite3.Error):
                self._index = _open_index()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        if self._index is not None:
            with contextlib.suppress(sqlite3.Error):
                self._keep()
            with contextlib.suppress(sqlite3.Error):
                self._index.close()

    def begin(self, folder: str | os.PathLike[str], record: JsonObject) -> Callable[[], None]:
        """Begins to digest a run's samples; the returned check waits for it.

        It raises FileError if the file isn't there or isn't what the record says.
        """
        path = os.path.join(folder, SAMPLES)
        claimed = str(record["samples_sha256"]).removeprefix("sha256:")
        if self._known(path) == claimed:
            return lambda: None
        future = self._pool.submit(_digest, path)
        self._made.append(future)
        return partial(_check, path, claimed, future)

    def _known(self, path: str) -> str | None:
        if self._index is None:
            return None
        try:
            of = FileState.of(os.stat(path))
            found = self._index.execute("SELECT sha256 FROM hashes WHERE file = ? AND state = ?", (of.file, of.state))
            row = found.fetchone()
        except (OSError, ValueError):
            return None
        except sqlite3.Error:
            self._index.close()
            self._index = None
            return None
        return None if row is None else str(row[0])

    def _keep(self) -> None:
        assert self._index is not None
        rows = []
        for future in self._made:
            with contextlib.suppress(OSError):
                if not future.cancelled() and (made := future.result())[1] is not None:
                    rows.append((made[1].file, made[1].state, made[0]))
        if not rows:
            return
        with self._index:
            self._index.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", rows)
            oldest = "SELECT max(rowid) - ? FROM hashes"
            self._index.execute(f"DELETE FROM hashes WHERE rowid <= ({oldest})", (_MOST_ENTRIES,))


def samples_sha256(path: str | os.PathLike[str]) -> str:
    """The sha256 of a plain file, in hex, read part by part. Raises OSError."""
    return _digest(path)[0]


def changed(path: str | os.PathLike[str], found: str, claimed: str) -> Problem | None:
    """What is wrong with a file of a run whose digest isn't the recorded one; None if it is."""
    if found == claimed:
        return None
    said = f"sha256 is {found[:16]}..., {RECORD} says {claimed[:16]}...: changed after the run ended"
    return Problem(str(path), 0, 0, said)


def _digest(path: str | os.PathLike[str]) -> tuple[str, FileState | None]:
    """(sha256, the state of the file that has it; None if it may be changed unseen)."""
    digest, began_ns = hashlib.sha256(), time.time_ns()
    with open_plain(path) as file:
        before = FileState.of(os.fstat(file.fileno()))
        while part := file.read(_CHUNK_BYTES):
            digest.update(part)
        after = FileState.of(os.fstat(file.fileno()))
    settled = before == after and began_ns - after.changed_ns > _SETTLED_NS
    return digest.hexdigest(), after if settled else None


def _check(path: str, claimed: str, future: Future[tuple[str, FileState | None]]) -> None:
    try:
        found, _ = future.result()
    except OSError as error:
        raise FileError([Problem(path, 0, 0, f"can't be read: {error.strerror or error}")]) from error
    if problem := changed(path, found, claimed):
        raise FileError([problem])


def _open_index() -> sqlite3.Connection:
    """Raises OSError, sqlite3.Error."""
    folder = cache_dir()
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "samples.sqlite")
    # A cache is worth no waiting, and nothing is lost if the machine dies in the middle.
    index = sqlite3.connect(path, timeout=2.0)
    try:
        index.execute("PRAGMA synchronous = OFF")
        index.execute(_TABLE)
    except sqlite3.DatabaseError as error:
        index.close()
        if isinstance(error, sqlite3.OperationalError):  # Another process is writing, or the folder is read-only.
            raise
        os.unlink(path)  # It was cut, or is no database.
        index = sqlite3.connect(path, timeout=2.0)
        index.execute(_TABLE)
    return index
