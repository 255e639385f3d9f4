"""A million runs on a thousand nodes, simulated: where the driver and the store of a matrix bend.

    python benchmarks/matrix_simulated.py [--runs 1000000] [--nodes 1000] [--folder DIR]

First the costs, of the real code on this machine: the driver's loop (`run_jobs` on jobs that end by themselves, ten
times as many each time: a cost a job that grows with them would be quadratic), its files a job, what the disk takes for
a run's files beside the processor, what a restart reads, what the leaderboard takes. Then a discrete-event simulation
with these: every node does jobs one run after another, a run takes exponential seconds and then the store's one writer,
and the end of a job the one driver, both first come, first served; once with this machine's disk as the store of all
nodes, once with a store that takes no time. Beside it stands what paper says (docs/matrix.md), the least of

    nodes / (t + s + (o + c) / r),    r / c (the driver),    1 / s (the store)    runs a second

with t seconds a run, s of the store a run, c of the driver a job, o a job's own overhead, r runs a job; and from how
many nodes on the driver and the store would bound it. Seeded.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from _synthetic import write_runs
from attrs import evolve, frozen

from slmbench.catalog import default_catalog
from slmbench.scheduling import EndedJob, Job, JobBook, JobForecast, JobState, in_order, job_of, run_jobs
from slmbench.workflow.rank import rank

OVERHEAD_S = 1.5
"""A job's own on a warm worker, at most, by matrix_throughput.py."""
AGREES = 0.05
RUNS_A_JOB = (1, 10, 100)


@frozen
class Costs:
    """Seconds: of the driver before the first job, and a job; of the store a run; of a restart a job and a run."""

    before: float
    driver: float
    store: float
    restart_job: float
    restart_run: float
    ranked: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="where files are made, in place of the system's temporary folder")
    asked = parser.parse_args()
    if asked.runs < 5 * asked.nodes * max(RUNS_A_JOB):
        parser.error(f"--runs: at least {5 * max(RUNS_A_JOB)} a node, so that each does some jobs")
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        costs = costs_of(Path(folder))
    worst = 0.0
    for store, name in ((costs.store, "this machine's disk"), (0.0, "takes no time")):
        print(f"\n{asked.runs:,} runs on {asked.nodes:,} nodes, {OVERHEAD_S} s of overhead a job; the store: {name}")
        print(
            "runs a job, s a run: paper, bound by; simulated, of paper; at work: nodes, driver, store; bends at nodes"
        )
        for per_job in RUNS_A_JOB:
            for run_s in (1.0, 10.0, 100.0):
                worst = max(worst, compared(asked.runs, asked.nodes, per_job, run_s, evolve(costs, store=store)))
    print(f"\nsimulated and paper differ by {worst:.1%} at most where one rate is well below the others (at most 5%)")
    told_ends(asked.runs, costs)
    sys.exit(worst > AGREES)


def compared(runs: int, nodes: int, per_job: int, run_s: float, costs: Costs) -> float:
    """How far the simulation is from what paper says; 0 where two rates are near and queues form before either."""
    found = rates(nodes, per_job, run_s, costs)
    bound = min(found, key=lambda name: found[name])
    paper, second, _ = sorted(found.values())
    rate, busy, driver, store = simulated(runs, nodes, per_job, run_s, costs)
    own = nodes / found["nodes"]
    bends = ", ".join(f"{name} {found[name] * own:,.0f}" for name in ("driver", "store") if math.isfinite(found[name]))
    near = second < 1.5 * paper
    print(
        f"{per_job:4d} {run_s:4.0f}: {paper:7.1f} {bound:7s} {rate:7.1f} {rate / paper:5.2f}; "
        f"{busy:4.0%} {driver:4.0%} {store:4.0%}; {bends}{'; two rates are near' if near else ''}",
        flush=True,
    )
    return 0.0 if near else abs(rate / paper - 1)


def told_ends(runs: int, costs: Costs) -> None:
    """What comes before and after the jobs, where nothing runs beside the driver."""
    for per_job in RUNS_A_JOB:
        count = runs / per_job
        print(
            f"{runs:,} runs in {count:,.0f} jobs: {count * costs.before / 60:.1f} min before the first job, "
            f"{(count * costs.restart_job + runs * costs.restart_run) / 60:.1f} min to see that nothing is missing"
        )
    print(f"their leaderboard: {runs * costs.ranked / 3600:.1f} h, were each run as dear as one of a thousand")


# The costs ------------------------------------------------------------------------------------------------------------


def costs_of(place: Path) -> Costs:
    loops = {count: looped(place, count) for count in (1000, 10_000, 100_000)}
    for count, (order, loop) in loops.items():
        print(
            f"{count:7,d} jobs: in_order {order * 1e6:.0f} us a job, run_jobs and a watcher {loop * 1e6:.0f} us a job"
        )
    book, jobs = JobBook(str(place / "book")), list(made_jobs(300))
    plan, _ = timed(lambda: [book.plan(job) for job in jobs], len(jobs))
    planned_again, _ = timed(lambda: [book.plan(job) for job in jobs], len(jobs))
    states, _ = timed(lambda: book.states(jobs), len(jobs))
    for job in jobs:
        with book.attempt(job) as attempt:
            attempt.done({key: f"runs/{key}" for key in job.makes})
    state, _ = timed(lambda: [book.state(job) for job in jobs], len(jobs))
    restart, made = timed(book.made, len(jobs))
    there, _ = timed(lambda: [(place / run).exists() for run in made.values()], len(made))
    with book.attempt(jobs[0]) as attempt:
        went_on = waited(lambda: [attempt.went_on(1) for _ in range(200)], 200)
        attempt.done({})
    written = waited(lambda: list(write_runs(place, models=100, tasks=1, items=10)), 100)
    list(write_runs(place, models=100, tasks=9, items=10))
    runs = sorted(str(path) for path in (place / "runs").iterdir())
    ranked, _ = timed(
        lambda: rank(runs, str(place / "leaderboard"), default_catalog(), suite=None, tasks=None), len(runs)
    )
    loop = loops[100_000]
    driver = loop[1] + state + planned_again
    print(
        f"driver: {driver * 1e3:.2f} ms a job (loop {loop[1] * 1e3:.3f}, reading its end {state * 1e3:.2f}, its file "
        f"{planned_again * 1e3:.2f}); before the first {(loop[0] + plan + 2 * states) * 1e3:.2f} ms a job\n"
        f"store: {(written + went_on) * 1e3:.2f} ms a run beside the processor (its files {written * 1e3:.2f}, "
        f"the sign that it is there {went_on * 1e3:.2f})\n"
        f"restart: {restart * 1e3:.2f} ms a job, {there * 1e3:.3f} ms a run; leaderboard: {ranked * 1e3:.1f} ms a run"
    )
    return Costs(loop[0] + plan + 2 * states, driver, written + went_on, restart, there, ranked)


def timed(work: Any, count: int) -> tuple[float, Any]:
    """(seconds for each, the result)."""
    begun = time.perf_counter()
    found = work()
    return (time.perf_counter() - begun) / count, found


def waited(work: Any, count: int) -> float:
    """Seconds for each in which no processor worked on it: what nodes that share a disk can't do at once."""
    begun, cpu = time.perf_counter(), time.process_time()
    work()
    return max(0.0, time.perf_counter() - begun - (time.process_time() - cpu)) / count


def made_jobs(count: int, results: int = 10) -> Iterable[Job]:
    drawn = random.Random(0)
    for number in range(count):
        keys = [f"{number:010d}{result:010d}" for result in range(results)]
        forecast = JobForecast(seconds=drawn.expovariate(0.01), memory_bytes=drawn.randrange(8) * 1_000_000_000)
        yield job_of("evaluate", f"base-{number}", {"cells": keys}, keys, forecast=forecast)


class Remembered(JobBook):
    """A book without a disk, in which every job that was begun is done."""

    def state(self, job: Job) -> JobState:
        return JobState(job, "done")

    def states(self, jobs: Iterable[Job]) -> list[JobState]:
        return [JobState(job, "planned") for job in jobs]


class Nodes:
    """A backend of so many nodes on which jobs end by themselves, some at once."""

    def __init__(self, nodes: int) -> None:
        self.nodes, self.running = nodes, []

    def fits(self, job: Job) -> bool:
        return len(self.running) < self.nodes

    def start(self, job: Job) -> None:
        self.running.append(EndedJob(job.key))

    def wait(self, timeout_s: float) -> list[EndedJob]:
        ended, self.running = self.running[:3], self.running[3:]
        return ended

    def close(self) -> None:
        pass


def looped(place: Path, count: int) -> tuple[float, float]:
    """(seconds of in_order a job, of the rest of run_jobs a job, with a watcher that counts states)."""
    jobs = list(made_jobs(count, results=1))
    order, _ = timed(lambda: in_order(jobs), count)

    def watch(states: Any) -> int:
        return sum(state.state == "done" for state in states)

    whole, _ = timed(lambda: run_jobs(jobs, Remembered(str(place)), Nodes(100), watch), count)
    return order, whole - order


# The simulation -------------------------------------------------------------------------------------------------------


def rates(nodes: int, per_job: int, run_s: float, costs: Costs) -> dict[str, float]:
    whole = run_s + costs.store + (OVERHEAD_S + costs.driver) / per_job
    return {
        "nodes": nodes / whole,
        "driver": per_job / costs.driver,
        "store": 1 / costs.store if costs.store else math.inf,
    }


def simulated(runs: int, nodes: int, per_job: int, run_s: float, costs: Costs) -> tuple[float, float, float, float]:
    """(runs a second, the share of nodes that computed, of the time that the driver and the store worked).

    Of the middle, from when all nodes were given work to when there was none left to give.
    """
    drawn = random.Random(0)
    jobs_left, driver_free, store_free = runs // per_job, 0.0, 0.0
    events: list[tuple[float, int, int]] = []  # When, the node, how many runs of its job are left.
    made, computed, driver_s, store_s, begun = 0, 0.0, 0.0, 0.0, 0.0
    for node in range(min(nodes, jobs_left)):
        driver_free += costs.driver
        jobs_left -= 1
        first = drawn.expovariate(1 / run_s)
        # Nodes don't begin in step: a job under way has some of its runs behind it.
        heapq.heappush(events, (driver_free + OVERHEAD_S + first, node, drawn.randint(1, per_job)))
    # A fifth of the runs for the queues to get as long as they stay.
    settled = runs // 5
    while events and jobs_left:
        now, node, left = heapq.heappop(events)
        store_free = max(now, store_free) + costs.store
        made += 1
        if made == settled:
            begun, computed, driver_s, store_s = now, 0.0, 0.0, 0.0
        store_s += costs.store
        ready, left = store_free, left - 1
        if not left:
            driver_free = max(ready, driver_free) + costs.driver
            driver_s += costs.driver
            jobs_left, left, ready = jobs_left - 1, per_job, driver_free + OVERHEAD_S
        takes = drawn.expovariate(1 / run_s)
        computed += takes
        heapq.heappush(events, (ready + takes, node, left))
    took = max(now - begun, 1e-9)
    return (made - settled) / took, computed / took / nodes, driver_s / took, store_s / took


if __name__ == "__main__":
    main()
