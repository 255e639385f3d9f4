"""`slmbench matrix`: many models, adapters and recipes on many tasks. Run again, it does what is still missing."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from slmbench.catalog import default_catalog
from slmbench.cli._matrix_table import COLORS, MatrixTable, progress_words, running_cells
from slmbench.cli._options import gathered
from slmbench.console import Console, board, duration, moves, say, show, show_json, using
from slmbench.console.columns import Cell, print_lines, table_lines
from slmbench.errors import SlmbenchError

if TYPE_CHECKING:
    from slmbench.scheduling import Job, JobsProgress, JobState, State
    from slmbench.workflow.matrix import MatrixPlan, ReadyMatrix

DEFAULT_MATRIX_OUT = "slmbench-matrix"
SEEDS_SHOWN = 4
"""So many trainings of a recipe are a row each."""
_NEED_WORDS: dict[State, str] = {
    "planned": "isn't done yet",
    "running": "another process does now",
    "done": "is done, and whose results are gone",
    "failed": "has failed",
    "blocked": "isn't done yet",
}
_OUT = "Where runs, trainings, the leaderboard and the jobs' own folder go."


class _MatrixGroup(click.Group):
    """`slmbench matrix GRID.yaml` is `slmbench matrix run GRID.yaml`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            return "run", self.commands["run"], args
        return super().resolve_command(ctx, args)


@click.group(
    "matrix",
    cls=_MatrixGroup,
    context_settings={"ignore_unknown_options": True},  # Those of `run`, before the matrix's file.
    help="A GRID.yaml of models, adapters and recipes crossed with tasks, formats and seeds, as one leaderboard.",
)
def command() -> None:
    pass


@command.command("run", help="Do what is missing of GRID.yaml (`slmbench matrix GRID.yaml` is the same), and rank it.")
@click.argument("grid", type=click.Path(exists=True, dir_okay=False))
@click.option("--out", type=click.Path(file_okay=False), default=DEFAULT_MATRIX_OUT, show_default=True, help=_OUT)
@click.option(
    "--on",
    default="local",
    show_default=True,
    help="Where jobs are done: local, ray, or ray://HOST:PORT.",
)
@click.option("--store", help="A URL, as s3://bucket/folder, for results of nodes that share no disk.")
@click.option(
    "--scratch",
    type=click.Path(file_okay=False),
    help="With --store: where each node works. [default: below the system's temp]",
)
@click.option("--workers", type=click.IntRange(1), help="Jobs at once. [default: what cores and memory allow]")
@click.option("--rerun", type=click.Choice(["failed"]), help="Try again what failed.")
@click.option("--max-jobs", type=click.IntRange(1), help="Begin at most so many jobs, and leave the rest.")
@click.option(
    "--past",
    multiple=True,
    type=click.Path(exists=True, file_okay=False),
    help="Forecast from the runs of this, too.",
)
@click.option("--dry-run", is_flag=True, help="Show the jobs and what they will take, and stop.")
@click.option(
    "--emit", type=click.Choice(["shell", "slurm"]), help="Print a script that does the jobs elsewhere, and stop."
)
@click.option("--allow-unsafe-code", is_flag=True, help="Run code that a model wrote even if no sandbox works here.")
@click.option("--no-texts", is_flag=True, help="Show digests on pages in place of prompts and outputs.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout, and nothing else.")
@gathered(plan="slmbench.workflow.matrix:MatrixPlan")
def run_command(plan: MatrixPlan, dry_run: bool, emit: str | None, as_json: bool) -> int:
    from slmbench.scheduling import JobState, progress_of, shell_script, slurm_script
    from slmbench.workflow.matrix import ready_matrix, run_matrix, workers_of, write_down

    catalog = default_catalog()
    ready = ready_matrix(plan, catalog)
    for notice in ready.grid.notices:
        say(f"note: {notice}")
    if dry_run:
        _show_plan(ready, as_json)
        return 0
    if emit is not None:
        write_down(ready)
        script = shell_script if emit == "shell" else slurm_script
        out = os.path.abspath(plan.out)
        text = script(ready.missing, lambda key: ["slmbench", "matrix", "run-job", key, "--out", out])
        show(text.rstrip("\n"), keep="\n")
        return 0
    planned = [JobState(job, "planned") for job in ready.missing]
    table = MatrixTable(ready.book, planned, workers_of(plan), moves=moves())
    with board("matrix", table):
        result = run_matrix(ready, catalog, table.tell)
    if as_json:
        show_json(_states_json(result.states, progress_of(result.states, workers_of(plan))))
    else:
        _show_states(result.states)
    if result.page is not None:
        say(f"page: {result.page}")
    for state in result.failed:
        _tell_failed(state, plan.out)
    told = [] if result.faulty is None else [str(result.faulty)]
    if result.failed:
        n, whole = len(result.failed), len(ready.jobs)
        told.append(f"{n} of {whole} jobs are not done; --rerun failed tries those that failed again")
    if told:
        raise SlmbenchError("\n".join(told))
    return 0


def _show_plan(ready: ReadyMatrix, as_json: bool) -> None:
    from slmbench.scheduling import in_order

    if as_json:
        show_json([job.as_json() for job in in_order(ready.missing)])
        return
    rows = [[Cell(text) for text in row] for row in _plan_rows(in_order(ready.missing))]
    heads = ["kind", "of", "results", "items", "time", "tokens", "memory"]
    print_lines(table_lines(heads, rows, right=heads[2:]))
    runs = sum(len(job.makes) for job in ready.missing)
    unknown = sum(job.forecast.seconds is None for job in ready.missing)
    show(f"{len(ready.missing)} of {len(ready.jobs)} jobs, {runs} results to make")
    if ready.missing:
        known = sum(job.forecast.seconds or 0.0 for job in ready.missing)
        parts = [f"about {duration(known)} of one worker"] if unknown < len(ready.missing) else []
        parts += [f"no past run tells of {unknown} job{'s' if unknown > 1 else ''}"] if unknown else []
        show("; ".join(parts))


def _plan_rows(jobs: Sequence[Job]) -> list[list[str]]:
    """The texts of a table's rows; trainings of one recipe with many seeds are one row."""
    alike: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        name = job.name if job.kind == "evaluate" else job.name.partition(" seed ")[0]
        alike.setdefault((job.kind, job.key if job.kind == "evaluate" else name), []).append(job)
    groups: list[tuple[str, list[Job]]] = []
    for (_, name), group in alike.items():
        if len(group) > SEEDS_SHOWN:
            groups.append((f"{name}, {len(group)} seeds", group))
        else:
            groups += [(job.name, [job]) for job in group]
    return [
        [group[0].kind, name, str(sum(len(job.makes) for job in group)), *_forecast_words(group)]
        for name, group in groups
    ]


def _forecast_words(group: Sequence[Job]) -> list[str]:
    """Items, time, tokens, memory: of all of a group, but the memory of one."""
    told = [job.forecast for job in group]
    seconds, tokens, items = (_sum(getattr(one, key) for one in told) for key in ("seconds", "tokens", "items"))
    memory = max(one.memory_bytes or 0 for one in told)
    scored = group[0].kind == "evaluate"
    return [
        "" if not scored else "?" if items is None else f"{items:,.0f}",
        "?" if seconds is None else duration(seconds),
        "" if not scored else "?" if tokens is None else f"{tokens:,.0f}",
        f"{memory / 1e9:.1f} GB" if memory else "?",
    ]


def _sum(values: Iterable[float | None]) -> float | None:
    """None if one of them isn't known."""
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)


def _show_states(states: Sequence[JobState]) -> None:
    rows, now = [], time.time()
    for state in states:
        took = duration(state.outcome.seconds) if state.outcome is not None else ""
        results = str(len(state.job.makes))
        if state.state == "running":
            _, _, results, took = running_cells(state, now)
        cells = [Cell(state.state, COLORS.get(state.state)), Cell(state.job.kind), Cell(state.job.name)]
        rows.append([*cells, Cell(results), Cell(took)])
    if rows:
        print_lines(table_lines(["state", "kind", "of", "results", "time"], rows, right=["results", "time"]))


def _tell_failed(state: JobState, out: str) -> None:
    if state.state == "blocked":
        say(f"blocked: {state.job.key}: what it needs has failed")
        return
    say(f"failed: {state.job.key}: {state.reason}")
    for line in state.outcome.last_lines if state.outcome is not None else ():
        say(f"    {line}")
    say(f"  alone: {_alone(state.job.key, out)}")


def _alone(key: str, out: str) -> str:
    """The command that does one job."""
    return shlex.join(["slmbench", "matrix", "run-job", key, "--out", out])


def _states_json(states: Sequence[JobState], far: JobsProgress) -> dict[str, object]:
    return {
        "counts": dict(far.counts),
        "seconds_left": far.seconds_left,
        "jobs": [_state_json(state) for state in states],
    }


def _state_json(state: JobState) -> dict[str, object]:
    return {
        "key": state.job.key,
        "kind": state.job.kind,
        "name": state.job.name,
        "state": state.state,
        "starts": state.starts,
        "results": len(state.job.makes),
        "made": len(state.outcome.made) if state.outcome is not None else state.made,
        "since": state.since,
        "reason": state.reason,
        "seconds": None if state.outcome is None else state.outcome.seconds,
    }


@command.command("status", help="Where the jobs of an output folder stand, also while another terminal does them.")
@click.argument("out", type=click.Path(exists=True, file_okay=False), default=DEFAULT_MATRIX_OUT)
@click.option("--json", "as_json", is_flag=True, help="Counts and jobs as JSON on stdout, and nothing else.")
def status_command(out: str, as_json: bool) -> int:
    from slmbench.scheduling import progress_of
    from slmbench.workflow.matrix import matrix_states

    states = matrix_states(out)
    progress = progress_of(states, workers=1)  # Or as many as run now: who does them knows how many it may begin.
    if as_json:
        show_json(_states_json(states, progress))
        return 0
    _show_states(states)
    show(progress_words(progress) if states else "no job was planned here")
    for state in states:
        if state.state == "failed":
            _tell_failed(state, out)
    return 0


@command.command("run-job", help="Do one job of a matrix by its KEY, here and now.")
@click.argument("key")
@click.option("--out", type=click.Path(file_okay=False), default=DEFAULT_MATRIX_OUT, show_default=True, help=_OUT)
def run_job_command(key: str, out: str) -> int:
    from slmbench.scheduling import JobBook, do_job, logged
    from slmbench.workflow.matrix import BOOK, open_needs
    from slmbench.workflow.matrix_jobs import run_matrix_job

    book = JobBook(os.path.join(out, BOOK))
    job = book.job(key)
    if needs := open_needs(book, job, out):
        told = [f"{need}, which {_NEED_WORDS[state]}; first: {_alone(need, out)}" for need, state in needs.items()]
        raise SlmbenchError("\n".join(f"{key} needs {line}" for line in told))
    if book.state(job).state == "failed":
        book.forget(key)
    with using(Console()), logged(book, key, shown=True):  # As a worker does it.
        outcome = do_job(book, job, run_matrix_job)
    if outcome.status == "failed":
        raise SlmbenchError(f"{key}: {outcome.reason}")
    say(f"{key}: done, {len(outcome.made)} results in {duration(outcome.seconds)}")
    return 0
