"""One job, done by this process: its runner found by name, its output in its log, its end written down."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Protocol

from slmbench.errors import SlmbenchError, UsageError
from slmbench.files import disk_errors
from slmbench.interrupts import interruptible
from slmbench.machine import is_out_of_memory, peak_memory_bytes, reset_peak_memory
from slmbench.scheduling._attempt import JobAttempt, JobOutcome
from slmbench.scheduling._book import JobBook
from slmbench.scheduling._job import Job

FOLLOW_S = 0.2
"""So often a log that is shown is looked at."""


class JobResults:
    """What a runner is told, and tells. starts: how often the job was begun, this time included.

    A start after the first means that the process before was killed, perhaps for memory, and came no further than the
    one before it. folder: of the bookkeeping.
    """

    def __init__(self, attempt: JobAttempt) -> None:
        self._attempt = attempt
        self.folder = attempt.folder
        self.starts = attempt.starts
        self.places: dict[str, str] = {}
        self._wanted = frozenset(attempt.job.makes)

    def made(self, key: str, place: str) -> None:
        """A result is there, whole. key: one of those that the job makes; place: where, below the output folder."""
        self.places[key] = place
        self._attempt.went_on(len(self._wanted & self.places.keys()))

    def goes_on_from(self, keeps: str) -> None:
        """The next result may be there in part, and goes on from that.

        keeps: a pattern, below the output folder, of what it leaves as it goes on, whose last name is what it goes on
        from. A start that left more than it found doesn't count towards those after which a job is given up.
        """
        self._attempt.goes_on_from(keeps)


class Runner(Protocol):
    """Does a job. Raises whatever went wrong: the job has failed then, with the results that it told of."""

    def __call__(self, job: Job, results: JobResults) -> None: ...


def runner_of(name: str) -> Runner:
    """A runner by `module:function`, which every process and machine finds by itself. Raises UsageError."""
    module, colon, function = name.partition(":")
    try:
        if not colon:
            raise ImportError("expected module:function")
        found: Runner = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"runner {name!r}: {error}") from error
    return found


def do_job(book: JobBook, job: Job, runner: Runner) -> JobOutcome:
    """Does a job and writes down how it ended; a failure is an outcome. An interrupted job is as if never begun.

    Raises TooManyStarts, KeyboardInterrupt; SlmbenchError if another process does the job, or the disk is full.
    """
    with book.attempt(job) as attempt:
        results = JobResults(attempt)
        reset_peak_memory()
        try:
            with interruptible() as interrupt:
                runner(job, results)
        except Exception as error:
            if interrupt:  # A library made another error of it, which says nothing of the job.
                raise KeyboardInterrupt from error
            if not isinstance(error, SlmbenchError):
                traceback.print_exc()
            return attempt.failed(_reason(error), results.places, peak_memory_bytes=_peak())
        left = [key for key in job.makes if key not in results.places]
        if left:
            reason = f"it ended without {len(left)} of its {len(job.makes)} results, among them {left[0]}"
            return attempt.failed(reason, results.places, peak_memory_bytes=_peak())
        return attempt.done(results.places, peak_memory_bytes=_peak())


def _peak() -> int | None:
    return peak_memory_bytes() or None


def _reason(error: Exception) -> str:
    said = str(error).strip()
    if isinstance(error, SlmbenchError):
        return said
    if is_out_of_memory(error):
        return f"out of memory: {said}" if said else "out of memory"
    return f"{type(error).__name__}: {said}"


@contextlib.contextmanager
def logged(book: JobBook, key: str, *, shown: bool = False) -> Iterator[None]:
    """For the length of the block all that this process writes, C libraries too, goes to the end of a job's log.

    shown: and from there to stderr, for a person who waits for the job.
    """
    path = book.log_path(key)
    with disk_errors(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    kept = [os.dup(1), os.dup(2)]
    try:
        os.write(log, f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {key}\n".encode())
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(log, 1)
        os.dup2(log, 2)
        with _followed(path, kept[1]) if shown else contextlib.nullcontext():
            yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, before in zip((1, 2), kept, strict=True):
            os.dup2(before, number)
            os.close(before)
        os.close(log)


@contextlib.contextmanager
def _followed(path: str, to: int) -> Iterator[None]:
    """For the length of the block what is added to a file is written to a file descriptor as well."""
    ended = threading.Event()
    # The log comes first and is whole, even of a process that is killed; this is a copy.
    with open(path, "rb") as log:
        log.seek(0, os.SEEK_END)

        def follow() -> None:
            with contextlib.suppress(OSError):  # Nobody reads any more.
                while True:
                    last = ended.is_set()
                    while data := log.read(65_536):
                        os.write(to, data)
                    if last:
                        return
                    ended.wait(FOLLOW_S)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            ended.set()
            thread.join()
