"""Jobs whose results go through a store: the side of the one process that gives them out, and that of a node."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

from attrs import define, field, frozen

from slmbench.console import say
from slmbench.errors import FileError, SlmbenchError
from slmbench.files import json_bytes
from slmbench.foreign import Amount, Count, Foreign, decode_json, parse
from slmbench.scheduling._attempt import LOST_S, JobAttempt, giving_signs
from slmbench.scheduling._book import JobBook
from slmbench.scheduling._do import do_job, logged, runner_of
from slmbench.scheduling._driver import gives_sign
from slmbench.scheduling._job import Job
from slmbench.scheduling._store import JobCommit, ResultStore, StoredFolder
from slmbench.seal import canonical_sha256
from slmbench.visible import visible

DRIVER = "driver.json"
Reads = Callable[[Job], Sequence[str]]
"""Places below the output folder, with / between their parts, that a job reads and other jobs made."""


@frozen(kw_only=True)
class StoreOptions:
    """url: of the store. scratch: where nodes keep their own output folders; None for below the system's temp.

    reads: what jobs read of each other.
    """

    url: str
    reads: Reads
    scratch: str | None = None


class _Driver(Foreign):
    token: str
    host: str
    pid: Count
    at: Amount


@define
class _Open:
    """An attempt that was given out, and the one of the book that it is."""

    name: str
    attempt: JobAttempt
    life: contextlib.ExitStack = field(factory=contextlib.ExitStack)


class StoredJobs:
    """What a process that gives out jobs keeps in its own book and output folder, of what nodes put into a store.

    Starts are counted here, one for each time that a job is given out.
    """

    def __init__(self, book: JobBook, options: StoreOptions) -> None:
        """Raises UsageError if the store's URL isn't one."""
        self._book, self._out = book, os.path.dirname(os.path.abspath(book.folder))
        self._reads, self.scratch = options.reads, options.scratch
        self.store = ResultStore(options.url)
        self._open: dict[str, _Open] = {}
        self._where: dict[str, StoredFolder] = {}

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The store for this process alone, as one that gives out jobs. Raises SlmbenchError if another one does."""
        token = secrets.token_hex(8)
        other = self._driver()
        if other is not None and self._is_alive(other):
            raise SlmbenchError(
                f"{self.store.shown()}: another process gives out jobs with it ({visible(other.host)}, process "
                f"{other.pid}); wait for it to end, or name another --store. If it is gone, {LOST_S:.0f} s after its "
                "last sign of life the store is free"
            )
        self._sign(token)
        found = self._driver()
        if found is None or found.token != token:
            raise SlmbenchError(f"{self.store.shown()}: another process has begun to give out jobs with it just now")
        try:
            with giving_signs(lambda: self._sign(token)):
                yield
        finally:
            with contextlib.suppress(SlmbenchError):
                self.store.remove(DRIVER)

    def _sign(self, token: str) -> None:
        value = {"token": token, "host": socket.gethostname(), "pid": os.getpid(), "at": time.time()}
        self.store.write(DRIVER, json_bytes(value))

    def _driver(self) -> _Driver | None:
        data, name = self.store.read(DRIVER), self.store.shown(DRIVER)
        with contextlib.suppress(FileError):
            return None if data is None else parse(_Driver, decode_json(data, name), name)
        return None

    def _is_alive(self, driver: _Driver) -> bool:
        import psutil

        if driver.host == socket.gethostname():
            return bool(psutil.pid_exists(driver.pid)) and abs(time.time() - driver.at) < LOST_S
        say(
            f"note: {visible(driver.host)} gave out jobs with {self.store.shown()} (process {driver.pid}), and has "
            f"written down no end: if it gives no sign of life for {LOST_S:.0f} s, this process goes on"
        )
        return gives_sign(self._driver, LOST_S)

    def begin(self, job: Job) -> str | None:
        """Writes down an attempt, with what it reads, and returns its name; None if a former one has made all of it.

        What former attempts left in the store is removed. Raises SlmbenchError.
        """
        life = contextlib.ExitStack()
        try:
            opened = _Open(secrets.token_hex(8), life.enter_context(self._book.attempt(job)), life)
            self._open[job.key] = opened
            if self._adopted(job):
                return None
            reads = [self._given(place) for place in self._reads(job)]
            self.store.ask(job, opened.name, opened.attempt.starts, reads)
        except BaseException:
            self._open.pop(job.key, None)
            life.close()
            raise
        return opened.name

    def _adopted(self, job: Job) -> bool:
        """Whether an attempt that a killed process gave out has all that is wanted; it is the job's then."""
        wanted = set(job.makes)
        for name in self.store.attempts(job.key):
            try:
                commit = self.store.committed(job.key, name)
                if commit is not None and commit.outcome.status == "done" and wanted <= commit.outcome.made.keys():
                    self._take(job.key, commit)
                    return True
            except SlmbenchError as error:
                if error.__cause__ is not None:  # A full disk, or a store that isn't reached: what it has stays.
                    raise
                say(f"note: {error}; the job is done again")
            self.store.drop(job.key, name)
        return False

    def _given(self, place: str) -> StoredFolder:
        found = self._where.get(place)
        if found is None:
            found = self._where[place] = self.store.give(os.path.join(self._out, place), place)
        return found

    def collect(self, key: str) -> bool:
        """Whether a job that was given out has ended, as the store tells; what it made is in the output folder then.

        A damaged result is a failure of the job. Raises SlmbenchError if the disk is full.
        """
        opened = self._open.get(key)
        if opened is None:
            return True
        try:
            commit = self.store.committed(key, opened.name)
            if commit is None:
                return False
            self._take(key, commit)
        except SlmbenchError as error:
            self.failed(key, str(error))
        return True

    def _take(self, key: str, commit: JobCommit) -> None:
        mine = os.path.basename(self._book.folder)
        folders = self.store.made(key, commit)
        for folder in folders:
            if folder.place.split("/")[0] == mine:
                raise SlmbenchError(f"{self.store.shown('jobs', key)}: made {folder.place}, where jobs are kept")
            self.store.fetch(folder.prefix, folder.files, os.path.join(self._out, folder.place))
        self.store.fetch_log(key, commit, self._book.log_path(key))
        self._where.update({folder.place: folder for folder in folders})
        opened = self._open.pop(key)
        opened.attempt.ended(commit.outcome)
        opened.life.close()

    def failed(self, key: str, reason: str) -> None:
        """Writes down that a job that was given out couldn't be tried, or its results not be had."""
        opened = self._open.pop(key)
        opened.attempt.failed(reason, {})
        opened.life.close()

    def died(self, key: str) -> None:
        """The process of a job died: its start counts."""
        opened = self._open.pop(key, None)
        if opened is not None:
            opened.life.close()

    def close(self) -> None:
        """Puts back what was given out and has no end here; what it has made all the same is found the next time."""
        for key, opened in self._open.items():
            self._book.forget(key)
            opened.life.close()
        self._open = {}


def scratch_of(scratch: str | None, url: str) -> str:
    """This machine's own output folder for a store, made if it isn't there.

    Raises SlmbenchError if another user owns it, who could put anything there.
    """
    base = scratch or os.path.join(tempfile.gettempdir(), f"slmbench-{os.getuid() if hasattr(os, 'getuid') else 0}")
    try:
        os.makedirs(base, mode=0o700, exist_ok=True)
        found = os.lstat(base)
        folder = os.path.join(base, canonical_sha256(url)[:16])
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise SlmbenchError(f"{visible(base)}: can't be made: {error.strerror}; name another --scratch") from error
    foreign = hasattr(os, "getuid") and found.st_uid != os.getuid()
    if scratch is None and (foreign or not stat.S_ISDIR(found.st_mode)):
        raise SlmbenchError(f"{visible(base)}: belongs to somebody else; name another folder by --scratch")
    return folder


def do_stored(url: str, key: str, attempt: str, scratch: str | None, runner: str) -> None:
    """Does an attempt that a store has, in this machine's own folder, and commits it. A failure is an outcome.

    Raises SlmbenchError if it can't be tried or put into the store, KeyboardInterrupt.
    """
    store = ResultStore(url)
    out = scratch_of(scratch, store.url)
    book = JobBook(os.path.join(out, "matrix"))
    job, starts, reads = store.asked(key, attempt)
    if job.key != key:
        raise SlmbenchError(f"{store.shown('jobs', key)}: asks for another job, {job.key}")
    with logged(book, key):
        for folder in reads:
            store.fetch(folder.prefix, folder.files, os.path.join(out, folder.place))
        book.begun_elsewhere(key, starts - 1)
        outcome = do_job(book, job, runner_of(runner))
    store.commit(key, attempt, outcome, out, book.log_path(key))
