"""How far jobs are: how many stand where, and how long what is left takes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

from attrs import evolve, frozen

from slmbench.scheduling._book import JobBook, JobState, State

STATES: tuple[State, ...] = get_args(State)


@frozen
class JobsProgress:
    """How far jobs are. counts: of every state. running: what is under way, the longest first.

    seconds_left: until all that can be done is; None if nothing tells. unknown: jobs of which nothing tells, which
    that leaves out.
    """

    counts: Mapping[State, int]
    running: tuple[JobState, ...]
    seconds_left: float | None
    unknown: int


def progress_of(states: Sequence[JobState], workers: int, *, now: float | None = None) -> JobsProgress:
    """How far jobs are. states: in the order of `in_order`. workers: at once, or as many as run, if those are more.

    now: seconds since 1970, the present by default. What a job takes is told by how far it is, else by its forecast,
    else by jobs of its kind that are done, by results.
    """
    now = time.time() if now is None else now
    counts = Counter(state.state for state in states)
    rates = _seconds_per_result(states)
    left: dict[str, float] = {}
    unknown = 0
    for state in states:
        if state.state not in ("planned", "running"):
            continue
        seconds = _left_of(state, rates, now)
        if seconds is None:
            unknown += 1
        else:
            left[state.job.key] = seconds
    running = sorted((one for one in states if one.state == "running"), key=lambda one: (one.since or now, one.job.key))
    open_jobs = counts["planned"] + counts["running"]
    seconds_left = None
    if left or not open_jobs:
        at_once = max(1, workers, counts["running"])
        # No more workers than jobs, and nothing before what it needs.
        seconds_left = max(sum(left.values()) / at_once, _longest_chain(states, left))
    return JobsProgress({name: counts[name] for name in STATES}, tuple(running), seconds_left, unknown)


def _seconds_per_result(states: Iterable[JobState]) -> dict[str, float]:
    """kind -> seconds a result, of the jobs that are done."""
    took: dict[str, float] = {}
    made: dict[str, int] = {}
    for state in states:
        if state.state == "done" and state.outcome is not None and state.outcome.made:
            kind = state.job.kind
            took[kind] = took.get(kind, 0.0) + state.outcome.seconds
            made[kind] = made.get(kind, 0) + len(state.outcome.made)
    return {kind: took[kind] / made[kind] for kind in made}


def _left_of(state: JobState, rates: Mapping[str, float], now: float) -> float | None:
    """Seconds until a job is done; None if nothing tells."""
    job = state.job
    elapsed = max(0.0, now - state.since) if state.state == "running" and state.since is not None else 0.0
    if state.state == "running" and state.made:
        return elapsed * max(0, len(job.makes) - state.made) / state.made
    whole = job.forecast.seconds
    if whole is None and job.kind in rates:
        whole = rates[job.kind] * len(job.makes)
    return None if whole is None else max(0.0, whole - elapsed)


def _longest_chain(states: Iterable[JobState], left: Mapping[str, float]) -> float:
    """Seconds of the jobs that have to be done one after another. states: those that are needed first."""
    until: dict[str, float] = {}
    for job in (state.job for state in states):
        until[job.key] = left.get(job.key, 0.0) + max((until.get(need, 0.0) for need in job.needs), default=0.0)
    return max(until.values(), default=0.0)


def looked_up(states: Sequence[JobState], book: JobBook) -> list[JobState]:
    """The same states, with how far the jobs that run have come by now."""
    found = []
    for state in states:
        starts = book.starts(state.job.key) if state.state == "running" else []
        found.append(evolve(state, made=starts[-1].made, since=starts[-1].at) if starts else state)
    return found
