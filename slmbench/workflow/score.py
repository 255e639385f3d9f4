"""Finished runs scored again, by today's metrics of their tasks or by others: no model is loaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from attrs import frozen

from slmbench.catalog import Catalog, default_catalog
from slmbench.console import phase, say
from slmbench.errors import SlmbenchError, UsageError
from slmbench.evaluation import SavedAnswers, needs_rows, rescore, rows_answered, saved_answers
from slmbench.formats import load_format
from slmbench.leaderboard import pool_of
from slmbench.metrics import Scorer, load_scorer
from slmbench.paths import shown
from slmbench.runs import LEFT_OUT, Run, read_record, run_folders, verify
from slmbench.sandbox import Sandbox, open_sandbox
from slmbench.task import LIKELIHOODS, Task, formats_of, load_task, outputs_of, require_rows, scores_samples
from slmbench.visible import visible


@frozen(kw_only=True)
class ScorePlan:
    """What is asked for. runs: folders of runs, or of several. metrics: in place of those that the tasks declare.

    out: the new runs go to its `runs`; beside the old ones if it is None. keep_verdicts: programs are not run again.
    """

    runs: tuple[str, ...]
    metrics: tuple[str, ...] | None = None
    out: str | None = None
    keep_verdicts: bool = False
    allow_unsafe_code: bool = False


@frozen
class Rescored:
    """A run before and after. error: what kept it from being scored again, if `after` is None."""

    before: str
    after: Run | None = None
    old: Run | None = None
    error: SlmbenchError | None = None


def score(
    runs: str | Run | Sequence[str | Run],
    metrics: str | Sequence[str] | None = None,
    *,
    out: str | None = None,
    keep_verdicts: bool = False,
    allow_unsafe_code: bool = False,
    catalog: Catalog | None = None,
) -> list[Run]:
    """Scores the saved answers of finished runs again; one new Run each. No model is loaded, no text is made anew.

    runs: a Run, the folder of one or of several, or a sequence of these. metrics: a name, several separated by commas,
    or a list, in place of those that the runs' tasks declare today. out: the new runs go to `<out>/runs`; beside the
    old ones unless given. keep_verdicts: score code tasks by the verdicts that are there, and run no program.
    allow_unsafe_code: run programs on a machine that has no sandbox for them. catalog: where tasks are looked up.
    The new record says whose answers it has (`rescored_of`). Raises SlmbenchError's children: FileError for a run that
    isn't what it claims, UsageError for metrics that can't score it.
    """
    listed = [runs] if isinstance(runs, (str, Run)) else list(runs)
    names = [name.strip() for name in metrics.split(",")] if isinstance(metrics, str) else metrics
    plan = ScorePlan(
        runs=tuple(one.folder if isinstance(one, Run) else os.fspath(one) for one in listed),
        metrics=None if names is None else tuple(names),
        out=out,
        keep_verdicts=keep_verdicts,
        allow_unsafe_code=allow_unsafe_code,
    )
    done = score_plan(plan, catalog or default_catalog())
    for one in done:
        if one.error is not None:
            raise one.error
    return [one.after for one in done if one.after is not None]


def score_plan(plan: ScorePlan, catalog: Catalog) -> list[Rescored]:
    """Every run of the plan, scored again or with what kept it from it. Raises UsageError for a path without runs.

    Runs that are themselves re-scored are left out if the run whose answers they have is there too; others that have no
    result are left out with a note.
    """
    folders = {folder.resolve(): folder for path in plan.runs for folder in run_folders(Path(path))}
    done: list[Rescored] = []
    found: dict[str, Run] = {}
    for folder in folders.values():
        try:
            record = read_record(folder)
        except FileNotFoundError:
            say(f"note: {shown(folder)}: unfinished run (no run.json yet); left out")
        except SlmbenchError as error:
            done.append(Rescored(shown(folder), error=error))
        else:
            if record["status"] in LEFT_OUT:
                say(f"note: {shown(folder)}: its status is {record['status']}; left out")
            else:
                found[record["run_id"]] = Run(str(folder), record)
    opened: list[Sandbox] = []
    for run in found.values():
        source = (run.record.get("rescored_of") or {}).get("run_id")
        if source in found and source != run.run_id:
            continue
        try:
            with phase(f"score {visible(run.run_id)}"):
                done.append(Rescored(run.run_id, _score_run(run, plan, catalog, opened), run))
        except SlmbenchError as error:
            done.append(Rescored(run.run_id, old=run, error=error))
    return done


def _score_run(run: Run, plan: ScorePlan, catalog: Catalog, opened: list[Sandbox]) -> Run:
    verify(run.folder, run.record, partial(pool_of, record=run.record, catalog=catalog))
    saved = saved_answers(run)
    task = _task_of(saved, plan, catalog)
    style = load_format(run.record.get("format") or "plain", formats_of([task]) if task is not None else None)
    if task is not None:
        task = task.in_format(style)
    scorers = _scorers(saved, plan, task)
    for scorer in scorers:
        if scorer.ready is not None:
            scorer.ready()
    examples = None
    sandbox = None
    if needs_rows(saved, scorers, keep_verdicts=plan.keep_verdicts):
        if task is None:
            name = run.record["task"]["id"]
            raise UsageError(f"{run.run_id}: task {name!r} is not known here, and its rows are needed")
        require_rows([(task, task.spec.split)])
        examples = rows_answered(saved, task)
        if saved.kind == "code" and not plan.keep_verdicts:
            if not opened:
                opened.append(open_sandbox(allow_unsafe=plan.allow_unsafe_code))
            sandbox = opened[0]
    parent = os.path.join(plan.out, "runs") if plan.out is not None else os.path.dirname(os.path.abspath(run.folder))
    return rescore(saved, scorers, style, parent, task=task, examples=examples, sandbox=sandbox)


def _task_of(saved: SavedAnswers, plan: ScorePlan, catalog: Catalog) -> Task | None:
    """The run's task as it is declared here, set up as it was run; None if it isn't known and metrics are named."""
    record = saved.run.record
    name = record["task"]["id"]
    if name not in catalog.files("tasks") and plan.metrics is not None:
        say(f"note: {visible(saved.run.run_id)}: task {visible(name)} is not known here, so nothing is extracted")
        return None
    source = record["dataset"].get("source")
    data = "samples" if source == "samples" else "twin" if record["model"].get("twin") else "auto"
    task = load_task(name, catalog, data=data)
    if task.version != record["task"].get("version"):
        said = f"was answered in version {record['task'].get('version')}, and is scored as version {task.version} says"
        say(f"note: {visible(saved.run.run_id)}: task {visible(name)} {said}")
    if task.kind != "choice" and task.spec.cot is not None:
        task = task.with_cot(record.get("cot"))
    return task.with_shots(0)


def _scorers(saved: SavedAnswers, plan: ScorePlan, task: Task | None) -> list[Scorer]:
    """The metrics that score a run. Raises UsageError for unknown ones, and for those that can't score its answers."""
    if plan.metrics is None:
        assert task is not None
        # What `--perplexity` added to the task's own stays.
        before = str(saved.run.record["scorer"]["id"]).split("+")
        more = [name for name in LIKELIHOODS if name in before and name not in {one.name for one in task.scorers}]
        able = [one for one in task.scorers if scores_samples(one, saved.kind, saved.epochs)]
        return [one for one in (*able, *map(load_scorer, more)) if saved.has_targets or not one.reads_target]
    wanted = outputs_of(saved.kind)
    scorers = []
    problems = []
    for name in dict.fromkeys(plan.metrics):
        try:
            scorers.append(load_scorer(name, task.plugins if task else None, task=task.name if task else ""))
        except UsageError as error:
            problems.append(str(error))
    named: dict[str, str] = {}
    for scorer in scorers:
        if scorer.kind not in wanted:
            problems.append(f"metric {scorer.name!r} scores {scorer.kind} outputs, and these are {wanted[0]} outputs")
        elif scorer.reads_target and not saved.has_targets:
            said = "reads how likely the targets are, which wasn't asked for; `slmbench eval --perplexity` asks"
            problems.append(f"metric {scorer.name!r} {said}")
        elif scorer.samples > saved.epochs:
            problems.append(f"metric {scorer.name!r} needs {scorer.samples} samples an item; there are {saved.epochs}")
        elif not scores_samples(scorer, saved.kind, saved.epochs):
            said = f"is pooled over items, each with one answer; there are {saved.epochs}"
            problems.append(f"metric {scorer.name!r} {said}")
        for value in scorer.values:
            if (other := named.setdefault(value, scorer.name)) != scorer.name:
                problems.append(f"metrics {other!r} and {scorer.name!r} both give a value {value!r}")
    if problems:
        raise UsageError("\n".join(f"{saved.run.run_id}: {problem}" for problem in problems))
    return scorers
