"""Files that are whole or not there: written to a temporary file that is renamed, by one process at a time."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO

from slmbench.errors import SlmbenchError
from slmbench.paths import shown

_BUILDING = ".building-"
_STALE_S = 3600.0  # A folder that is still being built after that long was left by a process that was killed.


@contextlib.contextmanager
def disk_errors(path: str) -> Iterator[None]:
    """Turns a full or read-only disk into a SlmbenchError that says what to do."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            message = f"{shown(path)}: the disk is full; free some space and run the same command again, it resumes"
        else:
            message = f"{shown(path)}: can't be written: {error.strerror}"
        raise SlmbenchError(message) from error


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error is the system's for a full disk, or a quota that is used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def need_room(folder: str, wanted_bytes: int, what: str, otherwise: str) -> None:
    """Raises SlmbenchError if a folder's disk has no room for `what`. otherwise: what to do but to free some space."""
    free = shutil.disk_usage(folder).free
    if free < wanted_bytes:
        raise SlmbenchError(
            f"{shown(folder)}: {free / 1e9:.1f} GB are free, and {what} up to {wanted_bytes / 1e9:.1f} GB; free some "
            f"space, or {otherwise}"
        )


@contextlib.contextmanager
def unbroken() -> Iterator[None]:
    """For the length of the block, which has to be short, SIGINT and SIGTERM wait: they are acted on after it.

    For several renames that are one step to whoever reads. Outside the main thread nothing waits.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    # No mask of this thread: the system would hand the signal to one of torch's.
    before = {number: signal.signal(number, lambda got, _: came.append(got)) for number in signals}
    try:
        yield
    finally:
        for number, kept in before.items():
            signal.signal(number, signal.SIG_DFL if kept is None else kept)
        if came:
            signal.raise_signal(came[0])


def write_atomically(path: str, data: bytes) -> None:
    """Writes a file so that a reader sees the old one or the new one, never half. Raises SlmbenchError."""
    write_together({path: data})


def write_together(contents: Mapping[str, bytes]) -> None:
    """Writes files, path -> data: all or none of them where it is interrupted or the disk is full.

    A kill in the middle of the renames leaves the first of them new. Raises SlmbenchError.
    """
    # No process id: those of two machines, or of two containers, that share a disk may be equal.
    mark = secrets.randbits(48)
    temporary = {
        path: os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{mark}.tmp") for path in contents
    }
    try:
        for path, data in contents.items():
            with disk_errors(path):
                os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
                with open(temporary[path], "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
        with unbroken():
            for path, beside in temporary.items():
                with disk_errors(path):
                    os.replace(beside, path)
    except BaseException:
        for beside in temporary.values():
            with contextlib.suppress(OSError):
                os.unlink(beside)
        raise
    for folder in {os.path.dirname(path) or "." for path in contents}:
        sync_folder(folder)


def write_json(path: str, value: object) -> None:
    """Writes JSON, indented, atomically. Raises ValueError for NaN, SlmbenchError if it can't be written."""
    write_atomically(path, json_bytes(value))


def json_bytes(value: object) -> bytes:
    """JSON as it is written to files, indented. Raises ValueError for NaN."""
    return (json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode()


def sync_folder(folder: str) -> None:
    # The rename itself has to reach the disk; not every file system lets a folder be opened for that.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def lock(file: IO[bytes]) -> bool:
    """Takes an open file's lock; False if another process holds it."""
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
    """A lock file, opened and locked, that still has its name; None if another process holds it.

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


def is_locked(path: str) -> bool:
    """Whether another process holds a lock file."""
    try:
        with open(path, "rb") as file:
            return not lock(file)
    except OSError:
        return False


@contextlib.contextmanager
def only_writer(path: str) -> Iterator[None]:
    """Holds a lock file for the length of the block. Raises SlmbenchError if another process holds it."""
    with disk_errors(path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        file = _open_linked(path)
        if file is None:  # Whoever looks (`is_locked`) holds it for a moment.
            time.sleep(0.05)
            file = _open_linked(path)
    if file is None:
        raise SlmbenchError(f"{shown(path)}: another process is writing there; wait for it to end")
    with file:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)


@contextlib.contextmanager
def writer_in_turn(path: str, wait_s: float = 120.0) -> Iterator[None]:
    """Holds a lock file for the length of the block, after any other process that holds it.

    Raises SlmbenchError if it is still held after wait_s seconds, OSError if there can't be such a file.
    """
    end = time.monotonic() + wait_s
    while (file := _open_linked(path)) is None:
        if time.monotonic() > end:
            raise SlmbenchError(f"{shown(path)}: another process has been writing there for {wait_s:.0f} s")
        time.sleep(0.05)
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
    with unbroken():
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


@contextlib.contextmanager
def built_once(place: str, is_whole: Callable[[str], bool]) -> Iterator[str]:
    """A new folder, which takes the name `place` at the block's end; nothing of it stays if the block raises.

    Of processes that build one place at once the first wins. A folder there that isn't whole is replaced, and what
    killed processes left beside it is removed. Raises SlmbenchError if the disk can't be written.
    """
    shelf = os.path.dirname(place)
    with disk_errors(shelf):
        os.makedirs(shelf, exist_ok=True)
        for entry in os.scandir(shelf):
            with contextlib.suppress(OSError):
                if entry.name.startswith(_BUILDING) and time.time() - entry.stat().st_mtime > _STALE_S:
                    shutil.rmtree(entry.path, ignore_errors=True)
        partial = os.path.join(shelf, f"{_BUILDING}{os.getpid()}-{secrets.token_hex(6)}")
        os.mkdir(partial)
    try:
        yield partial
        _put(partial, place, is_whole)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put(partial: str, place: str, is_whole: Callable[[str], bool]) -> None:
    # A folder can't be swapped for another in one step: what stands there is moved off only if it is damaged.
    for attempt in range(10):
        with contextlib.suppress(OSError):
            os.rename(partial, place)
            return
        if is_whole(place):  # Another process was faster.
            return
        damaged = f"{partial}-damaged-{attempt}"
        with contextlib.suppress(OSError):
            os.rename(place, damaged)
            shutil.rmtree(damaged, ignore_errors=True)
    raise SlmbenchError(f"{shown(place)}: can't be put in place; delete that folder and run the same command again")


def file_sha256(path: str) -> str:
    """The sha256 of a file, in hex. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
