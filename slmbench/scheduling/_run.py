"""Jobs begun in order as they fit, by a backend, until each is done, has failed, or waits for one that failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from slmbench.scheduling._book import MAX_STARTS, JobBook, JobState
from slmbench.scheduling._job import Job, in_order
from slmbench.scheduling._pool import EndedJob

POLL_S = 1.0


class Backend(Protocol):
    """Where jobs are done: processes of this machine, or those of many."""

    def fits(self, job: Job) -> bool:
        """Whether a job can be begun now."""

    def start(self, job: Job) -> None:
        """Begins a job."""

    def wait(self, timeout_s: float) -> Sequence[EndedJob]:
        """Those that ended since the last call, after at most so many seconds."""

    def close(self) -> None:
        """Stops whatever still runs."""


Watcher = Callable[[Sequence[JobState]], object]
"""Told of every job's state whenever one changes, and now and then in between."""


def run_jobs(
    jobs: Iterable[Job],
    book: JobBook,
    backend: Backend,
    watch: Watcher | None = None,
    *,
    most: int | None = None,
) -> list[JobState]:
    """Does all jobs that aren't done, and returns where each stands then, in the order of `in_order`.

    A job that failed never stops the others, but those that need it are blocked. One whose process died is begun once
    more. most: how many are begun at all; those that it leaves stay planned. The backend is closed in any case,
    KeyboardInterrupt included, which leaves what runs to the next call.
    """
    ordered = in_order(jobs)
    states = {state.job.key: state for state in book.states(ordered)}
    waiting = [job for job in ordered if states[job.key].state == "planned"]
    running: dict[str, Job] = {}
    begun: set[str] = set()
    try:
        while True:
            for job in list(waiting):
                needs = [states[need].state for need in job.needs]
                if any(state in ("failed", "blocked") for state in needs):
                    waiting.remove(job)
                    states[job.key] = JobState(job, "blocked")
                elif all(state == "done" for state in needs) and backend.fits(job):
                    if most is not None and len(begun) >= most and job.key not in begun:
                        continue
                    waiting.remove(job)
                    begun.add(job.key)
                    backend.start(job)
                    running[job.key] = job
                    states[job.key] = JobState(job, "running", states[job.key].starts + 1, time.time())
            if watch is not None:
                watch(list(states.values()))
            if not running:
                break
            for ended in backend.wait(POLL_S):
                job = running.pop(ended.key)
                state = book.state(job)
                if state.state == "planned" and ended.said is None and state.starts < MAX_STARTS:
                    waiting.insert(0, job)  # Its process died: once more.
                    states[job.key] = state
                    continue
                if state.state in ("planned", "running"):
                    said = ended.said or ended.died or "it ended without an outcome"
                    state = JobState(job, "failed", state.starts, said=said)
                states[job.key] = state
    finally:
        backend.close()
    return [states[job.key] for job in ordered]
