"""Jobs begun in order as they fit, by a backend, until each is done, has failed, or waits for one that failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from attrs import evolve

from slmbench.console import say
from slmbench.scheduling._attempt import LOST_S
from slmbench.scheduling._book import MAX_STARTS, JobBook, JobState
from slmbench.scheduling._job import Job, in_order
from slmbench.scheduling._pool import EndedJob
from slmbench.scheduling._waiting import WaitingJobs

POLL_S = 1.0
TELLING_COSTS = 9.0
"""So many times as long as a watcher took it isn't called."""


class Backend(Protocol):
    """Where jobs are done: processes of this machine, or those of many."""

    def fits(self, job: Job) -> bool:
        """Whether a job can be begun now; the same of jobs of one kind and one forecast of memory."""

    def start(self, job: Job) -> None:
        """Begins a job."""

    def wait(self, timeout_s: float) -> Sequence[EndedJob]:
        """Those that ended since the last call, after at most so many seconds."""

    def close(self) -> None:
        """Stops whatever still runs."""


Watcher = Callable[[Sequence[JobState]], object]
"""Told of every job's state when one has changed and now and then in between, and of how all stand at the end."""


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
    more. One that another process does, perhaps for a caller that was killed, is waited for: it ends, or can be begun.
    most: how many are begun at all; those that it leaves stay planned. The backend stays open for more jobs. Whoever
    opened it closes it, also after a KeyboardInterrupt or another error, which leave jobs running.
    """
    ordered = in_order(jobs)
    states = {state.job.key: state for state in book.states(ordered)}
    states |= _perhaps_elsewhere(states.values(), book)
    waiting = WaitingJobs(ordered, states)
    elsewhere = [job for job in ordered if states[job.key].state == "running"]
    running: dict[str, Job] = {}
    begun: set[str] = set()
    tell = _told_now_and_then(watch)

    def may_begin(job: Job) -> bool:
        return most is None or len(begun) < most or job.key in begun

    def settle(state: JobState) -> None:
        states[state.job.key] = state
        states.update({job.key: JobState(job, "blocked") for job in waiting.ended(state)})

    while True:
        for job in waiting.that_fit(backend.fits, may_begin):
            begun.add(job.key)
            backend.start(job)
            running[job.key] = job
            states[job.key] = JobState(job, "running", states[job.key].starts + 1, time.time())
        tell(states, last=not running and not elsewhere)
        if not running and not elsewhere:
            break
        if not running:
            time.sleep(POLL_S)
        for job in list(elsewhere):
            if book.may_run_elsewhere(job.key):
                continue
            book.take_for_lost(job.key)
            state = book.state(job)
            if state.state == "running":
                continue
            elsewhere.remove(job)
            if state.state == "planned":
                waiting.again(job)
                states[job.key] = state
            else:
                settle(state)
        for ended in backend.wait(POLL_S) if running else ():
            job = running.pop(ended.key)
            state = book.state(job)
            if state.state == "running":  # Another process was faster; or it died so far off that nothing tells.
                elsewhere.append(job)
                states[job.key] = state
                continue
            if state.state == "planned" and ended.said is None and state.starts < MAX_STARTS:
                waiting.again(job)  # Its process died: once more.
                states[job.key] = state
                continue
            if state.state == "planned":
                said = ended.said or ended.died or "it ended without an outcome"
                state = JobState(job, "failed", state.starts, said=said)
            settle(state)
    return [states[job.key] for job in ordered]


def _perhaps_elsewhere(states: Iterable[JobState], book: JobBook) -> dict[str, JobState]:
    """Those that another machine has begun and not ended, as running: its clock may be wrong, so they are watched."""
    begun = [one for one in states if one.state == "planned" and one.starts]
    found = {one.job.key: evolve(one, state="running") for one in begun if book.may_run_elsewhere(one.job.key)}
    if found:
        jobs = "a job" if len(found) == 1 else f"{len(found)} jobs"
        say(f"note: another machine has begun {jobs}; what gives no sign of life for {LOST_S:.0f} s is begun here")
    return found


def _told_now_and_then(watch: Watcher | None) -> Callable[..., None]:
    """Tells the watcher of all states, but never for more than a tenth of the time: there may be a million of them."""
    due = 0.0

    def tell(states: Mapping[str, JobState], *, last: bool) -> None:
        nonlocal due
        begun = time.monotonic()
        if watch is None or (begun < due and not last):
            return
        watch(list(states.values()))
        ended = time.monotonic()
        due = ended + TELLING_COSTS * (ended - begun)

    return tell
