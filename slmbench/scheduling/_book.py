"""What became of jobs, in a folder that many processes and machines share: a folder a job, every file whole or absent.

    <folder>/jobs/<key>/job.json       what is to be done
                        starts.jsonl   a line for each start: when, where, by whom
                        log.txt        what the job said
                        outcome.json   how it ended; not there while it hasn't
                        made.json      what earlier attempts made
             matrices/<name>.json      which jobs a matrix has now

A start without an outcome is a job that runs, or one that was killed: its lock, and where locks don't reach (another
machine), the time at which it last gave a sign of life, tell which.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Literal

from attrs import evolve, frozen
from pydantic import Field

from slmbench.console import say
from slmbench.errors import FileError, SlmbenchError, UsageError, did_you_mean
from slmbench.files import disk_errors, is_locked, only_writer, write_atomically, write_json
from slmbench.foreign import Foreign, SchemaOne, read_json, read_model
from slmbench.paths import shown
from slmbench.scheduling._attempt import (
    LOST_S,
    JobAttempt,
    JobOutcome,
    JobStart,
    counting,
    giving_signs,
    last_lines,
    lines_of,
    start_now,
    starts_in,
    starts_path,
)
from slmbench.scheduling._job import Job, in_order, job_from
from slmbench.visible import visible

State = Literal["planned", "running", "done", "failed", "blocked"]
POLL_S = 0.5
MAX_STARTS = 2
"""Of a job that was killed each time and came no further: the third would be killed as well, and a scheduler that
retries would go on."""


@frozen
class JobState:
    """Where a job stands. starts: how often it was begun since it last came further. since: when it was begun.

    said: why it isn't done, if no outcome tells. made: results so far of a job that runs.
    """

    job: Job
    state: State
    starts: int = 0
    since: float | None = None
    outcome: JobOutcome | None = None
    said: str | None = None
    made: int = 0

    @property
    def reason(self) -> str | None:
        """Why it failed, in one line; None if it hasn't."""
        return self.outcome.reason if self.outcome is not None else self.said


class TooManyStarts(SlmbenchError):
    """A job that was killed at each of its starts."""


class JobBook:
    """The folder of what became of jobs; any number of processes may have one open.

    Only `JobAttempt`s write of a job, and one process at a time has one.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        # What was seen of jobs that other machines have begun: (when the last sign came by their clock, by ours).
        self._signs: dict[str, tuple[int, float]] = {}

    def place(self, key: str) -> str:
        return os.path.join(self.folder, "jobs", key)

    def log_path(self, key: str) -> str:
        return os.path.join(self.place(key), "log.txt")

    def plan(self, job: Job) -> None:
        """Writes a job down, so that another process can do it by its key. Raises SlmbenchError."""
        path = os.path.join(self.place(job.key), "job.json")
        with contextlib.suppress(FileNotFoundError, FileError):
            if job_from(read_json(path), path) == job:
                return
        write_json(path, job.as_json())

    def job(self, key: str) -> Job:
        """A job that was planned. Raises UsageError if there is none of that key, FileError."""
        path = os.path.join(self.place(key), "job.json")
        try:
            return job_from(read_json(path), path)
        except FileNotFoundError:
            known = sorted(os.listdir(os.path.join(self.folder, "jobs"))) if os.path.isdir(self.folder) else []
            raise UsageError(f"no job {key!r} in {shown(self.folder)}{did_you_mean(key, known)}") from None

    def jobs(self) -> list[Job]:
        """Those of all matrices that were planned here, by their keys. A job whose file is damaged is left out.

        What a matrix was, before it was changed or split otherwise, is left out too.
        """
        folder, settled = os.path.join(self.folder, "jobs"), self._settled()
        found = []
        for key in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            if settled is not None and key not in settled:
                continue
            with contextlib.suppress(UsageError, FileError):
                found.append(self.job(key))
        return found

    def begun(self) -> list[Job]:
        """Those that were begun and not put back, whichever matrix planned them, by their keys."""
        folder = os.path.join(self.folder, "jobs")
        found = []
        for key in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            if any(os.path.exists(os.path.join(folder, key, name)) for name in ("outcome.json", "starts.jsonl")):
                with contextlib.suppress(UsageError, FileError):
                    found.append(self.job(key))
        return found

    def settle(self, matrix: str, keys: Iterable[str]) -> None:
        """Writes down that these are all jobs of a matrix; others that it had are its jobs no more."""
        write_json(os.path.join(self.folder, "matrices", f"{matrix}.json"), {"schema": 1, "jobs": list(keys)})

    def _settled(self) -> set[str] | None:
        """Keys of the jobs of all matrices; None if that isn't written down."""
        folder = os.path.join(self.folder, "matrices")
        found: set[str] | None = None
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            with contextlib.suppress(FileError, OSError):
                found = (found or set()) | set(read_model(os.path.join(folder, name), _MatrixJobs).jobs)
        return found

    def outcome(self, key: str) -> JobOutcome | None:
        """How a job ended; None if it hasn't, or if its file is damaged: then it is done again."""
        try:
            return read_model(os.path.join(self.place(key), "outcome.json"), JobOutcome)
        except (FileNotFoundError, FileError):
            return None

    def made(self) -> dict[str, str]:
        """key of a result -> where it is, by the outcomes of all jobs that ever ended here."""
        jobs = os.path.join(self.folder, "jobs")
        found: dict[str, str] = {}
        for key in sorted(os.listdir(jobs)) if os.path.isdir(jobs) else ():
            outcome = self.outcome(key)
            found |= self._kept(key) | (outcome.made if outcome is not None else {})
        return found

    def _kept(self, key: str) -> dict[str, str]:
        """What a job had made in attempts whose outcome isn't there any more."""
        try:
            return read_model(os.path.join(self.place(key), "made.json"), _Made).made
        except (FileNotFoundError, FileError):
            return {}

    def starts(self, key: str) -> list[JobStart]:
        """Every start of a job that had no end and that counts. A line that is cut off counts: it was begun."""
        return starts_in(self.place(key))

    def is_running(self, key: str) -> bool:
        """Whether some process does the job now: its lock is held here, or it gave a sign of life from elsewhere.

        Of another machine that is as its clock tells; before a job is begun, `may_run_elsewhere` is asked.
        """
        lock_path = os.path.join(self.place(key), ".lock")
        starts = self.starts(key)
        if not starts or starts[-1].lost or not os.path.exists(lock_path):
            return False
        if starts[-1].host != socket.gethostname():
            with contextlib.suppress(OSError):
                return time.time() - os.stat(starts_path(self.place(key))).st_mtime < LOST_S
            return False
        return is_locked(lock_path)

    def may_run_elsewhere(self, key: str) -> bool:
        """Whether another machine may do the job now, also if that doesn't look so by its clock, which may be wrong.

        It may until this book, asked now and then, has seen no sign of life for LOST_S, or somebody else has
        (`take_for_lost`).
        """
        if not self._began_elsewhere(key) or not os.path.exists(os.path.join(self.place(key), ".lock")):
            return False
        try:
            sign = os.stat(starts_path(self.place(key))).st_mtime_ns
        except OSError:
            return False
        before = self._signs.get(key)
        if before is None or before[0] != sign:
            before = self._signs[key] = (sign, time.monotonic())
        return time.monotonic() - before[1] < LOST_S

    def take_for_lost(self, key: str) -> None:
        """Writes down that a job isn't done any more by the machine that has begun it last."""
        starts = self.starts(key)
        if self._began_elsewhere(key):
            lost = [*starts[:-1], evolve(starts[-1], lost=True)]
            write_atomically(starts_path(self.place(key)), lines_of(lost))

    def _began_elsewhere(self, key: str) -> bool:
        """Whether another machine has begun a job last, has written down no end, and isn't taken for lost."""
        starts = self.starts(key)
        there = bool(starts) and starts[-1].host != socket.gethostname() and not starts[-1].lost
        return there and self.outcome(key) is None

    def _wait_for_a_sign(self, key: str) -> None:
        """Until a job of another machine is taken for lost. Raises SlmbenchError if that gives a sign of life."""
        starts = self.starts(key)
        if not self.may_run_elsewhere(key):
            return
        who = f"{visible(starts[-1].host)} (process {starts[-1].pid})"
        if self.is_running(key):
            raise SlmbenchError(f"{key}: {who} does it, or did {LOST_S:.0f} s ago")
        say(f"note: {key} was begun by {who}: it is begun here if that gives no sign of life for {LOST_S:.0f} s")
        first = self._signs[key]
        while self.may_run_elsewhere(key):
            if self._signs[key] != first:
                raise SlmbenchError(f"{key}: {who} does it")
            time.sleep(POLL_S)
        self.take_for_lost(key)

    def state(self, job: Job) -> JobState:
        """Where a job stands, whatever stands with those that it needs (`states` knows)."""
        outcome = self.outcome(job.key)
        if outcome is not None:
            return JobState(job, outcome.status, len(self.starts(job.key)), outcome.started, outcome)
        starts = self.starts(job.key)
        if self.is_running(job.key):
            return JobState(job, "running", len(starts), starts[-1].at, made=starts[-1].made)
        starts = counting(self.folder, starts)
        if len(starts) >= MAX_STARTS:
            return JobState(job, "failed", len(starts), starts[-1].at, self._killed(job.key, starts))
        return JobState(job, "planned", len(starts))

    def states(self, jobs: Iterable[Job]) -> list[JobState]:
        """Where each job stands, in the order of `in_order`; one that needs a failed one is blocked."""
        found: dict[str, JobState] = {}
        for job in in_order(jobs):
            state = self.state(job)
            stuck = any(found[need].state in ("failed", "blocked") for need in job.needs)
            found[job.key] = evolve(state, state="blocked") if stuck and state.state == "planned" else state
        return list(found.values())

    def forget(self, key: str) -> None:
        """Takes back how a job ended and how often it was begun, so that it is done again; what it made stays."""
        self._take_back(key)
        with disk_errors(self.place(key)), contextlib.suppress(FileNotFoundError):
            os.unlink(starts_path(self.place(key)))

    def begun_elsewhere(self, key: str, times: int) -> None:
        """Takes note of how often another book has seen a job begun, in place of what this one has."""
        self.forget(key)
        if times:
            write_atomically(starts_path(self.place(key)), lines_of([start_now()] * times))

    def _take_back(self, key: str) -> None:
        """Removes how a job ended, not what it made."""
        outcome = self.outcome(key)
        if outcome is not None and outcome.made:
            write_json(os.path.join(self.place(key), "made.json"), {"made": self._kept(key) | outcome.made})
        with disk_errors(self.place(key)), contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.place(key), "outcome.json"))

    @contextlib.contextmanager
    def attempt(self, job: Job) -> Iterator[JobAttempt]:
        """One start of a job, by this process alone, with signs of life from a thread until the block ends.

        A KeyboardInterrupt puts the job back. Raises TooManyStarts if it was killed at each of MAX_STARTS starts
        without coming further, SlmbenchError if another process does it.
        """
        self.plan(job)
        place = self.place(job.key)
        # Not every network's folder has locks that reach another machine.
        self._wait_for_a_sign(job.key)
        with only_writer(os.path.join(place, ".lock")):
            starts = counting(self.folder, self.starts(job.key))
            if self.outcome(job.key) is None and len(starts) >= MAX_STARTS:
                raise TooManyStarts(_said_killed(job.key, starts))
            self._take_back(job.key)
            attempt = JobAttempt(self.folder, place, job, starts)
            try:
                attempt.begin()
                with giving_signs(lambda: os.utime(starts_path(place))):
                    yield attempt
            except KeyboardInterrupt:  # Somebody stopped the work: as if it had never begun.
                self.forget(job.key)
                raise

    def _killed(self, key: str, starts: list[JobStart]) -> JobOutcome:
        at = starts[-1].at
        return JobOutcome(
            status="failed",
            made={},
            reason=_said_killed(key, starts),
            last_lines=self.last_lines(key),
            seconds=0.0,
            started=at,
            ended=at,
            host=starts[-1].host,
        )

    def last_lines(self, key: str) -> list[str]:
        """The last lines of what a job said, safe to show."""
        return last_lines(self.log_path(key))


class _Made(Foreign):
    made: dict[str, str]


class _MatrixJobs(Foreign, extra="forbid"):
    version: SchemaOne = Field(alias="schema")
    jobs: list[str]


def _said_killed(key: str, starts: list[JobStart]) -> str:
    return (
        f"{key} was begun {len(starts)} times and killed each time, perhaps for memory; its log tells how far it came. "
        "--rerun failed begins it again"
    )
