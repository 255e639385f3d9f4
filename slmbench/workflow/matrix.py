"""A matrix: planned from its file, done by workers as far as it isn't, and ranked as one leaderboard."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from slmbench.catalog import Catalog
from slmbench.console import phase, say
from slmbench.errors import UsageError
from slmbench.machine import available_bytes, gpus, usable_cores
from slmbench.matrix import Grid, PastCosts, able_of, jobs_of, load_grid, missing_of
from slmbench.scheduling import (
    Backend,
    Job,
    JobBook,
    JobState,
    LocalPool,
    LocalResources,
    RayBackend,
    RayResources,
    ResultStore,
    State,
    StoreOptions,
    Watcher,
    only_driver,
    run_jobs,
)
from slmbench.seal import canonical_sha256
from slmbench.workflow.matrix_jobs import places_read
from slmbench.workflow.matrix_ranked import LEADERBOARD, MatrixRanking
from slmbench.workflow.quiet import quiet_libraries

if TYPE_CHECKING:  # A dry run needs neither, and their import takes half of its time.
    from slmbench.leaderboard import Leaderboard, RunProblems

BOOK = "matrix"
LOCAL, RAY, RAY_CLIENT = "local", "ray", "ray://"
TOLD = ("SLMBENCH_", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
"""What other machines are told of this process's environment, by how names begin: no token, and no path of a cache."""
WORTH_WAITING = 1000
"""Runs that take longer to rank again than the two seconds after which files are sure not to change unseen."""
RUNNER = "slmbench.workflow.matrix_jobs:run_matrix_job"


@frozen(kw_only=True)
class MatrixPlan:
    """What is asked for. workers: None for what fits. rerun: failed, so that they are tried again, or None.
    max_jobs: begun in this call. on: `local` for workers of this machine, `ray` or `ray://HOST:PORT` for a cluster.

    past: other output folders, whose runs tell what jobs take. store: the URL of where nodes put their results, if they
    share no disk; scratch: where they keep their own output folders, or None for below the system's temp.
    """

    grid: str
    out: str
    on: str = LOCAL
    workers: int | None = None
    rerun: str | None = None
    past: tuple[str, ...] = ()
    max_jobs: int | None = None
    allow_unsafe_code: bool = False
    no_texts: bool = False
    store: str | None = None
    scratch: str | None = None


@frozen(kw_only=True)
class ReadyMatrix:
    """A sound matrix. jobs: all of it; missing: with what isn't made yet. made: key -> where it is."""

    plan: MatrixPlan
    grid: Grid
    book: JobBook
    jobs: tuple[Job, ...]
    missing: tuple[Job, ...]
    made: Mapping[str, str]


@frozen
class MatrixResult:
    """Where every job stands, and the leaderboard, if it was made in this call; page: None if there is nothing to rank.

    A leaderboard that is of all that is there isn't made a second time. faulty: runs left out of it.
    """

    states: tuple[JobState, ...]
    board: Leaderboard | None
    page: str | None
    faulty: RunProblems | None = None

    @property
    def failed(self) -> list[JobState]:
        return [state for state in self.states if state.state in ("failed", "blocked")]


def ready_matrix(plan: MatrixPlan, catalog: Catalog) -> ReadyMatrix:
    """Raises DeclarationError with every problem of the matrix, UsageError."""
    if plan.rerun not in (None, "failed"):
        raise UsageError(f"--rerun {plan.rerun}: expected failed")
    if plan.on not in (LOCAL, RAY) and not plan.on.startswith(RAY_CLIENT):
        raise UsageError(f"--on {plan.on}: expected {LOCAL}, {RAY}, or {RAY_CLIENT}HOST:PORT")
    if plan.store is None and plan.scratch is not None:
        raise UsageError("--scratch is for --store")
    if plan.store is not None:
        if plan.on == LOCAL:
            raise UsageError(f"--store is for --on {RAY}: workers of this machine share its disk")
        ResultStore(plan.store)
    with phase("planning"):
        grid = load_grid(plan.grid, catalog)
        book = JobBook(os.path.join(plan.out, BOOK))
        past = PastCosts([os.path.join(folder, "runs") for folder in (plan.out, *plan.past)], plan.out, grid.items)
        whole_s = past.forecast_all(grid.cells)
        jobs = jobs_of(
            grid,
            past.forecast,
            past.forecast_training,
            share_s=None if whole_s is None else whole_s / workers_of(plan),
            allow_unsafe_code=plan.allow_unsafe_code,
            no_texts=plan.no_texts,
            begun=book.begun(),
        )
        made = made_of(book, plan.out)
        missing = missing_of(jobs, made)
    return ReadyMatrix(plan=plan, grid=grid, book=book, jobs=tuple(jobs), missing=tuple(missing), made=made)


def made_of(book: JobBook, out: str) -> dict[str, str]:
    """key -> where it is, of all that jobs in a folder have made and that is there still, whoever asked for it."""
    return {key: place for key, place in book.made().items() if os.path.exists(os.path.join(out, place))}


def write_down(ready: ReadyMatrix) -> None:
    """Writes the jobs of a matrix into its output folder, so that any process can do them. Raises SlmbenchError."""
    for job in ready.missing:
        ready.book.plan(job)
    path = os.path.abspath(ready.plan.grid)
    ready.book.settle(canonical_sha256(path)[:12], [job.key for job in ready.jobs])


def run_matrix(
    ready: ReadyMatrix, catalog: Catalog, watch: Watcher | None = None, backend: Backend | None = None
) -> MatrixResult:
    """Does what is missing, and ranks all that is there. A job that failed stops nothing but what needs it.

    backend: where jobs are done, which stays open; None for what the plan says. Raises SlmbenchError if another process
    gives out the jobs of the output folder.
    """
    plan, book = ready.plan, ready.book
    with only_driver(book):
        states = _done(ready, watch, backend)
        worked = {state.job.key for state in states}
        done = [JobState(job, "done", outcome=book.outcome(job.key)) for job in ready.jobs if job.key not in worked]
        made = made_of(book, plan.out)
        runs = [os.path.join(plan.out, made[cell.key]) for cell in ready.grid.cells if cell.key in made]
        if not runs:
            return MatrixResult((*done, *states), None, None)
        board, page, faulty = _ranked(ready, catalog, runs)
        return MatrixResult((*done, *states), board, page, faulty)


def _done(ready: ReadyMatrix, watch: Watcher | None, backend: Backend | None) -> list[JobState]:
    """Does the jobs of a matrix as far as they aren't done; returns where they stand then."""
    plan, book = ready.plan, ready.book
    for job in ready.missing:
        state = book.state(job)
        # What was done since it was planned, perhaps while this process waited for another one's end, stays done.
        gone = state.state == "done" and not _has_made(state, plan.out)
        if gone or (state.state == "failed" and plan.rerun == "failed"):
            book.forget(job.key)
    write_down(ready)
    with contextlib.ExitStack() as opened:
        if backend is None:  # One that was given is its giver's to close.
            backend = opened.enter_context(contextlib.closing(backend_of(plan, book, len(ready.missing))))
        states = run_jobs(ready.missing, book, backend, watch, most=plan.max_jobs)
        if plan.max_jobs is None:
            states = _parts_of_blocked(ready, states, watch, backend)
    return states


def _has_made(state: JobState, out: str) -> bool:
    """Whether all that a job that is done has to make is there."""
    made = {} if state.outcome is None else state.outcome.made
    return all(key in made and os.path.exists(os.path.join(out, made[key])) for key in state.job.makes)


def _parts_of_blocked(
    ready: ReadyMatrix, states: list[JobState], watch: Watcher | None, backend: Backend
) -> list[JobState]:
    """Does of blocked jobs what needs nothing that failed: if one of eight adapters isn't there, the other seven.

    Returns where all stand; those jobs stay blocked, unless what could be done of them failed as well.
    """
    book = ready.book
    made = made_of(book, ready.plan.out)
    whole: dict[str, JobState] = {}
    parts: list[Job] = []
    for state in states:
        if state.state == "blocked" and state.job.kind == "evaluate":
            able = able_of(state.job, made)
            if able:
                whole[state.job.key] = state
                parts.append(evolve(state.job, makes=able, needs=()))
    if not parts:
        return states
    say(f"note: of {len(parts)} blocked job{'s' * (len(parts) > 1)} what needs nothing that failed is done")
    others = [state for state in states if state.job.key not in whole]

    def told(now: Sequence[JobState]) -> None:
        if watch is not None:
            watch([*others, *now])

    tried = {one.job.key: one for one in run_jobs(parts, book, backend, told)}
    for key, one in tried.items():
        book.plan(whole[key].job)
        if one.state == "done":  # As far as it could be.
            book.forget(key)
    failed = {key: one for key, one in tried.items() if one.state == "failed"}
    return [failed.get(state.job.key, state) for state in states]


def backend_of(plan: MatrixPlan, book: JobBook, jobs: int) -> Backend:
    """Where the jobs are done. Raises UsageError if there is no such cluster, or none of its nodes can do jobs."""
    if plan.on == LOCAL or not jobs:
        return local_pool(plan, book, jobs)
    quiet_libraries()
    return RayBackend(
        book,
        RUNNER,
        RayResources(jobs=jobs, most=plan.workers),
        environment={name: value for name, value in os.environ.items() if name.startswith(TOLD)},
        address=None if plan.on == RAY else plan.on,
        store=_store_of(plan),
    )


def _store_of(plan: MatrixPlan) -> StoreOptions | None:
    if plan.store is None:
        return None
    scratch = plan.scratch and os.path.abspath(plan.scratch)
    return StoreOptions(url=plan.store, scratch=scratch, reads=lambda job: places_read(job, plan.out))


def _ranked(
    ready: ReadyMatrix, catalog: Catalog, runs: list[str]
) -> tuple[Leaderboard | None, str, RunProblems | None]:
    """(the leaderboard, its page, what is wrong with runs that were left out); None of what is there as it is."""
    plan, spec, tasks = ready.plan, ready.grid.spec, ready.grid.tasks
    place = os.path.join(plan.out, LEADERBOARD)
    suite = spec.suites[0] if len(spec.suites) == 1 and not spec.tasks else None
    with phase("looking at the leaderboard"):
        ranking = MatrixRanking(
            plan.out, BOOK, {"runs": runs, "suite": suite, "tasks": tasks, "no_texts": plan.no_texts}, catalog
        )
        if ranking.is_there():
            return None, os.path.join(place, "index.html"), None
    if len(runs) >= WORTH_WAITING:
        ranking.settle()
    from slmbench.workflow.rank import rank

    found = rank(runs, place, catalog, suite=suite, tasks=tasks, no_texts=plan.no_texts, whole=plan.out)
    if found[2] is None:  # What is wrong is told each time.
        ranking.keep()
    return found


def local_pool(plan: MatrixPlan, book: JobBook, jobs: int) -> Backend:
    """Workers on this machine: as many as there are cores and jobs, each with its share of the cores."""
    workers = max(1, min(workers_of(plan), jobs))
    resources = LocalResources(
        workers=workers,
        threads=max(1, usable_cores() // workers),
        memory_bytes=available_bytes("cpu"),
        gpus=gpus(os.environ),
    )
    return LocalPool(book, RUNNER, resources, environment=os.environ)


def workers_of(plan: MatrixPlan) -> int:
    """How many jobs may run at once: as many as asked for, else as there are GPUs, else cores."""
    return plan.workers or len(gpus(os.environ)) or usable_cores()


def open_needs(book: JobBook, job: Job, out: str) -> dict[str, State]:
    """Key -> state of each job that another one needs and of whose results one isn't there."""
    needs = [book.job(need) for need in job.needs]
    made = made_of(book, out) if needs else {}
    return {need.key: book.state(need).state for need in needs if any(key not in made for key in need.makes)}


def matrix_states(out: str) -> list[JobState]:
    """Where each job stands that the matrices of an output folder have."""
    book = JobBook(os.path.join(out, BOOK))
    jobs = book.jobs()
    known = {job.key for job in jobs}
    made = made_of(book, out)
    needs = {job.key: tuple(need for need in job.needs if need in known) for job in jobs}
    states = book.states(evolve(job, needs=needs[job.key]) for job in jobs)
    # Another job may have made the same, as one of a matrix that was split otherwise.
    return [evolve(one, state="done") if all(key in made for key in one.job.makes) else one for one in states]
