"""A worker process: keys of jobs come in, a line each; for each that ended a line goes out. It ends with its parent."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading

from slmbench.console import Console, using
from slmbench.errors import SlmbenchError
from slmbench.interrupts import interruptible
from slmbench.scheduling._book import JobBook
from slmbench.scheduling._do import do_job, logged, runner_of


def work(folder: str, runner_name: str) -> int:
    """Does jobs until there is no parent to name more. Returns the exit code."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # What a library prints is no reply.
    book = JobBook(folder)
    keys: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    busy = threading.Event()
    threading.Thread(target=_listen, args=(keys, busy), daemon=True).start()
    with using(Console()), interruptible():
        try:
            while (key := keys.get()) is not None:
                busy.set()
                try:
                    with logged(book, key):
                        do_job(book, book.job(key), runner_of(runner_name))
                except SlmbenchError as error:
                    # Nobody's job to retry: another process does it, or nothing can be written.
                    replies.write(f"{key} {' '.join(str(error).split())}\n")
                else:
                    replies.write(f"{key}\n")
                finally:
                    busy.clear()
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:
            return 0
    return 0


def _listen(keys: queue.SimpleQueue[str | None], busy: threading.Event) -> None:
    for line in sys.stdin:
        keys.put(line.rstrip("\n"))
    keys.put(None)
    if busy.is_set():  # The parent is gone: nobody waits for this job, and another may begin it.
        with contextlib.suppress(OSError):
            os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(work(sys.argv[1], sys.argv[2]))
