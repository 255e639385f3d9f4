"""Jobs that wait: which can be begun next, found in steps that don't grow with how many wait."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence

from slmbench.scheduling._book import JobState
from slmbench.scheduling._job import Job

LOOKED_AT = 32
"""Sizes of jobs that are offered in vain before one waits for something to end."""
_Size = tuple[str, int, int | None, int | None]


class WaitingJobs:
    """Jobs in an order, each ready once what it needs is done.

    Jobs of one kind, number of processes and forecast of memory are alike to whoever has room: what has none for one
    has none for the others either, so the first of them alone is offered. Beginning or ending a job takes steps by the
    logarithm of how many there are, and one for each that needs it: a million jobs would take days if each step looked
    at all.
    """

    def __init__(self, ordered: Sequence[Job], states: Mapping[str, JobState]) -> None:
        """ordered: all jobs, the first ones first. states: where each stands; those that are planned wait."""
        self._jobs = ordered
        self._states = {key: state.state for key, state in states.items()}
        self._after: dict[str, list[int]] = {job.key: [] for job in ordered}
        self._left: dict[str, int] = {}
        self._again: list[Job] = []
        # Of each size the ready jobs, and the first of each size; one that isn't the first any more is passed over.
        self._ready: dict[_Size, list[int]] = {}
        self._firsts: list[tuple[int, _Size]] = []
        for place, job in enumerate(ordered):
            if self._states[job.key] != "planned":
                continue
            open_needs = [need for need in job.needs if self._states[need] != "done"]
            for need in open_needs:
                self._after[need].append(place)
            self._left[job.key] = len(open_needs)
            if not open_needs:
                self._push(place)

    def _push(self, place: int) -> None:
        job = self._jobs[place]
        size = (job.kind, job.forecast.processes, job.forecast.memory_bytes, job.forecast.gpu_bytes)
        ready = self._ready.setdefault(size, [])
        heapq.heappush(ready, place)
        if ready[0] == place:
            heapq.heappush(self._firsts, (place, size))

    def again(self, job: Job) -> None:
        """A job whose process died waits once more, before all others."""
        self._states[job.key] = "planned"
        self._again.insert(0, job)

    def ended(self, state: JobState) -> list[Job]:
        """Tells where a job stands for good. Returns the jobs that this blocks."""
        blocked: list[Job] = []
        told = [(state.job.key, state.state)]
        while told:
            key, now = told.pop()
            self._states[key] = now
            for place in self._after.pop(key, ()):
                job = self._jobs[place]
                if now == "done":
                    self._left[job.key] -= 1
                    if not self._left[job.key] and self._states[job.key] == "planned":
                        self._push(place)
                elif self._states[job.key] == "planned":
                    blocked.append(job)
                    told.append((job.key, "blocked"))
        return blocked

    def that_fit(self, fits: Callable[[Job], bool], may_begin: Callable[[Job], bool]) -> Iterator[Job]:
        """The jobs to begin now, in order, each asked for when the one before was begun.

        may_begin: False for a job that isn't begun in this call, however much room there is.
        """
        for job in list(self._again):
            if may_begin(job) and fits(job):
                self._again.remove(job)
                yield job
        refused: list[tuple[int, _Size]] = []
        try:
            while self._firsts and len(refused) < LOOKED_AT:
                place, size = self._firsts[0]
                ready = self._ready[size]
                if not ready or ready[0] != place:
                    heapq.heappop(self._firsts)
                    continue
                if not may_begin(self._jobs[place]):
                    break
                if not fits(self._jobs[place]):
                    refused.append(heapq.heappop(self._firsts))
                    continue
                heapq.heappop(self._firsts)
                heapq.heappop(ready)
                if ready:
                    heapq.heappush(self._firsts, (ready[0], size))
                yield self._jobs[place]
        finally:
            for one in refused:
                heapq.heappush(self._firsts, one)
