"""One process at a time gives out the jobs of a folder, and it is known which."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator

from slmbench.console import say
from slmbench.errors import FileError, SlmbenchError
from slmbench.files import disk_errors, only_writer, write_json
from slmbench.foreign import Amount, Count, Foreign, read_model
from slmbench.paths import shown
from slmbench.scheduling._attempt import LOST_S, giving_signs
from slmbench.scheduling._book import JobBook
from slmbench.visible import visible

POLL_S = 1.0


class _DriverFile(Foreign):
    host: str
    pid: Count
    at: Amount


@contextlib.contextmanager
def only_driver(book: JobBook) -> Iterator[None]:
    """For the length of the block this process alone gives out the jobs of a folder; its name stands in `driver.json`.

    One that was killed holds nothing: on its own machine its lock went with it, and another machine waits until no sign
    of life has come for LOST_S. Raises SlmbenchError if another process gives them out, and says which.
    """
    path = os.path.join(book.folder, "driver.json")
    with contextlib.ExitStack() as held:
        with disk_errors(book.folder):
            os.makedirs(book.folder, exist_ok=True)
        try:
            held.enter_context(only_writer(os.path.join(book.folder, ".driver.lock")))
        except SlmbenchError as error:
            if error.__cause__ is not None:  # The disk's, not another process's.
                raise
            raise SlmbenchError(_said(book, _read(path))) from None
        other = _read(path)
        if other is not None and other.host != socket.gethostname():  # Not every network's folder has locks.
            say(
                f"note: {visible(other.host)} gave out the jobs of {shown(book.folder)} (process {other.pid}), and has "
                f"written down no end: if it gives no sign of life for {LOST_S:.0f} s, this process goes on"
            )
            if gives_sign(lambda: _stamp(path), LOST_S):
                raise SlmbenchError(_said(book, other))
        write_json(path, {"host": socket.gethostname(), "pid": os.getpid(), "at": time.time()})
        held.callback(_unlink, path)
        with giving_signs(lambda: os.utime(path)):
            yield


def gives_sign(sign: Callable[[], object], lost_s: float) -> bool:
    """Whether something changes within so many seconds that a living process changes; False also if it is gone.

    Clocks are not compared: those of two machines may be apart by more than that.
    """
    first, end = sign(), time.monotonic() + lost_s
    while first is not None and time.monotonic() < end:
        time.sleep(min(POLL_S, lost_s / 4))
        now = sign()
        if now is None:
            return False
        if now != first:
            return True
    return False


def _stamp(path: str) -> int | None:
    with contextlib.suppress(OSError):
        return os.stat(path).st_mtime_ns
    return None


def _read(path: str) -> _DriverFile | None:
    with contextlib.suppress(OSError, FileError):
        return read_model(path, _DriverFile)
    return None


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _said(book: JobBook, other: _DriverFile | None) -> str:
    out = shown(os.path.dirname(os.path.abspath(book.folder)))
    who = "" if other is None else f" ({visible(other.host)}, process {other.pid})"
    return (
        f"{out}: another process gives out its jobs{who}; `slmbench matrix status {out}` tells how far it is. Wait for "
        "it or stop it, or give another --out"
    )
