"""Files that are whole or not there: written to a temporary file that is renamed, by one process at a time."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from typing import IO, Any

from slmbench.errors import SlmbenchError
from slmbench.paths import shown


@contextlib.contextmanager
def disk_errors(path: str) -> Iterator[None]:
    """Turns a full or read-only disk into a SlmbenchError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"{shown(path)}: the disk is full; free some space and run the same command again, it resumes"
        else:
            message = f"{shown(path)}: can't be written: {error.strerror}"
        raise SlmbenchError(message) from error


def write_atomically(path: str, data: bytes) -> None:
    """Writes a file so that a reader sees the old one or the new one, never half. Raises SlmbenchError."""
    folder = os.path.dirname(path) or "."
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{os.getpid()}.tmp")
    with disk_errors(path):
        try:
            os.makedirs(folder, exist_ok=True)
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        sync_folder(folder)


def write_json(path: str, value: Any) -> None:
    """Writes JSON, indented, atomically. Raises ValueError for NaN, SlmbenchError where it can't be written."""
    write_atomically(path, (json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode())


def sync_folder(folder: str) -> None:
    # The rename itself has to reach the disk; not every file system lets a folder be opened for that.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def lock(file: IO[bytes]) -> bool:
    """Takes an open file's lock; False where another process holds it."""
    try:
        import fcntl
    except ImportError:  # Windows has no flock; there one writer is the user's word.
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)  # Some network file systems have no locks.
    return True


def _open_linked(path: str) -> IO[bytes] | None:
    """A lock file, opened and locked, that still has its name; None where another process holds it.

    One that its last holder has just unlinked is locked in vain: the next one to come would open a new file.
    """
    while True:
        file = open(path, "ab")  # noqa: SIM115  (closed by the caller, which gives the lock back)
        if not lock(file):
            file.close()
            return None
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        file.close()


@contextlib.contextmanager
def only_writer(path: str) -> Iterator[None]:
    """Holds a lock file for the length of the block. Raises SlmbenchError where another process holds it."""
    with disk_errors(path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        file = _open_linked(path)
    if file is None:
        raise SlmbenchError(f"{shown(path)}: another process is writing there; wait for it to end")
    with file:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)


def swap_folder(new: str, place: str) -> None:
    """Puts a folder in the place of another; a kill in between loses neither (see `restore_swapped`)."""
    old = _swapped(place)
    shutil.rmtree(old, ignore_errors=True)
    if os.path.isdir(place):
        os.replace(place, old)
    os.replace(new, place)
    shutil.rmtree(old, ignore_errors=True)


def restore_swapped(place: str) -> None:
    """Mends what a kill in the middle of `swap_folder` left."""
    old = _swapped(place)
    if os.path.isdir(old) and not os.path.isdir(place):
        os.replace(old, place)
    shutil.rmtree(old, ignore_errors=True)


def _swapped(place: str) -> str:
    return os.path.join(os.path.dirname(place), f".{os.path.basename(place)}.old")
