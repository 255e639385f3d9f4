"""Jobs that need no model: a module with runners, which workers import by its name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from slmbench.scheduling import (
    Backend,
    EndedJob,
    Job,
    JobBook,
    JobForecast,
    JobState,
    LocalPool,
    LocalResources,
    Watcher,
    job_of,
    run_jobs,
)

RUNNERS = """
import os, signal, time
from slmbench.errors import UsageError
from slmbench.interrupts import Interrupt, deferred

def run(job, results):
    work = job.work
    if work.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("begun", job.name, "for the", results.starts, ". time", flush=True)
    if work.get("step_s"):
        noted = Interrupt()
        with deferred(noted, "the step is finished"):
            while not noted:
                time.sleep(0.01)
            time.sleep(work["step_s"])
            open(os.path.join(work["to"], "kept"), "w").close()
    for key in job.makes:
        if work.get("sleeps_s"):
            time.sleep(work["sleeps_s"])
        if work.get("dies") and results.starts <= work["dies"]:
            os.kill(os.getpid(), signal.SIGKILL)
        if work.get("raises") == key:
            raise UsageError("the model has no such layer")
        if work.get("breaks") == key:
            {}["nothing"]
        with open(os.path.join(work["to"], key), "a") as file:
            file.write(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}\\n")
        results.made(key, key)
        if work.get("dies_after") == key and results.starts == 1 and not os.path.exists(work["to"] + "/died"):
            open(work["to"] + "/died", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
"""

MakeJob = Callable[..., Job]


class Counting:
    """One job at a time, done at once by this process; counts how often it is asked what fits."""

    def __init__(self, book: JobBook, room: int = 1) -> None:
        self.book, self.room = book, room
        self.asked = 0
        self.ended: list[EndedJob] = []

    def fits(self, job: Job) -> bool:
        self.asked += 1
        return len(self.ended) < 1 and (job.forecast.memory_bytes or 0) <= self.room

    def start(self, job: Job) -> None:
        with self.book.attempt(job) as attempt:
            attempt.failed("no", {}) if job.work.get("fails") else attempt.done(dict.fromkeys(job.makes, "here"))
        self.ended.append(EndedJob(job.key))

    def wait(self, timeout_s: float) -> list[EndedJob]:
        ended, self.ended = self.ended, []
        return ended

    def close(self) -> None:
        pass


def run_alone(jobs: Iterable[Job], book: JobBook, backend: Backend, watch: Watcher | None = None) -> list[JobState]:
    """What becomes of jobs on a backend that is closed after them, however they end."""
    with contextlib.closing(backend):
        return run_jobs(jobs, book, backend, watch)


@pytest.fixture
def runners(tmp_path: Path) -> dict[str, str]:
    """The environment of workers that find the module `runners_of_tests`."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "runners_of_tests.py").write_text(RUNNERS)
    return {**os.environ, "PYTHONPATH": str(tmp_path / "modules")}


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    def make(
        name: str, makes: Sequence[str] = (), needs: Sequence[Job] = (), s: float | None = None, **work: object
    ) -> Job:
        (tmp_path / "made").mkdir(exist_ok=True)
        made = tuple(makes) or (name,)
        return job_of(
            "evaluate",
            name,
            {"to": str(tmp_path / "made"), **work, "makes": list(made)},
            made,
            needs=[job.key for job in needs],
            forecast=JobForecast(seconds=s, memory_bytes=1),
        )

    return make


@pytest.fixture
def book(tmp_path: Path) -> JobBook:
    return JobBook(str(tmp_path / "matrix"))


@pytest.fixture
def make_pool(book: JobBook, runners: dict[str, str]) -> Callable[..., LocalPool]:
    def make(workers: int = 2, memory_bytes: int | None = None) -> LocalPool:
        resources = LocalResources(workers=workers, memory_bytes=memory_bytes)
        return LocalPool(book, "runners_of_tests:run", resources, environment=runners)

    return make
