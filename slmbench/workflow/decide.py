"""Whom an evaluation is raced against: finished runs on the same items, found and checked before a model is loaded."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from slmbench.console import say
from slmbench.datasets import digest_rows
from slmbench.errors import UsageError, did_you_mean
from slmbench.evaluation import Opponent, drawn, items_sha256
from slmbench.leaderboard import LoadedRuns, RunProblems, ScoredRun, read_runs
from slmbench.metrics import Scorer
from slmbench.paths import shown
from slmbench.runs import MetricPart, item_hash, metric_key
from slmbench.statistics.race import ALPHA
from slmbench.task import Task
from slmbench.workflow.sides import row_of, together

DECIDED = "decided"
_NAMED = 6


def check_race(against: Sequence[str], until: str | None, margin: float | None, limit: int | None) -> None:
    """Raises UsageError for flags that don't go together, with all of it."""
    odd = []
    if until is not None and until != DECIDED:
        odd.append(f"until is {until!r}; it can be {DECIDED!r}")
    if until is not None and not against:
        odd.append(f"--until {until}: against whom isn't said; add --against RUN, the folder of a finished run")
    if margin is not None and until is None:
        odd.append("--margin is for --against RUN --until decided")
    if margin is not None and not 0 < margin < math.inf:
        odd.append(f"--margin is {margin:g}; give a difference above 0, in the metric's units, as .02")
    if until is not None and limit is not None:
        odd.append(f"--limit {limit} and --until {until}: the first items are not drawn at random; leave --limit out")
    if odd:
        raise UsageError("\n".join(odd))


def opponents_of(
    against: Sequence[str],
    tasks: Sequence[Task],
    out: str,
    *,
    margin: float | None = None,
    seed: int = 0,
    models: int = 1,
) -> dict[str, Opponent]:
    """Task -> the run that it is raced against.

    against: folders of runs, run.json files, output folders, or of `out` rows by their names and runs by their ids; in
    all of them together there has to be one model's run a task. seed: of the random order; that of the run if it was
    stopped itself. models: how many are compared with it: what may be wrong is shared among them and the tasks.
    Raises UsageError with everything that is wrong, RunProblems for a run that doesn't hold what it claims.
    """
    loaded = together([_loaded(one, out) for one in against])
    found: dict[str, Opponent] = {}
    odd: list[str] = []
    alpha = ALPHA / max(1, models * len(tasks))
    for task in tasks:
        try:
            scorer, metric = _metric(task)
            run = _chosen(task, loaded.runs, against)
            found[task.name] = _opponent(task, scorer, metric, run, margin, seed, alpha)
        except UsageError as error:
            odd.append(str(error))
    if odd and loaded.problems:
        raise RunProblems([*loaded.problems])
    if odd:
        raise UsageError("\n".join(odd))
    if alpha < ALPHA:
        say(
            f"{models * len(tasks)} comparisons in one call: each is wrong with probability {alpha:.2g} at most, "
            f"and so any of them with {ALPHA:g} at most"
        )
    return found


def _loaded(given: str, out: str) -> LoadedRuns:
    if os.path.exists(given):
        return read_runs([given])
    if not os.path.isdir(os.path.join(out, "runs")):
        raise UsageError(f"--against {shown(given)}: no such folder, and no runs in {shown(out)} to look for it")
    store = read_runs([out])
    return LoadedRuns(row_of(given, out, store).runs, store.notices)


def _chosen(task: Task, runs: Sequence[ScoredRun], against: Sequence[str]) -> ScoredRun:
    """The one run of a task, a whole one before a stopped one, and the newest of these."""
    where = ", ".join(map(shown, against))
    of_task = [run for run in runs if run.task == task.name]
    if not of_task:
        there = sorted({run.task for run in runs})
        raise UsageError(
            f"--against {where}: no finished run of task {task.name!r}{did_you_mean(task.name, there) if there else ''}"
        )
    if limited := [run for run in of_task if run.record.get("limit") is not None]:
        of_task = [run for run in of_task if run not in limited]
        if not of_task:
            raise UsageError(
                f"--against {where}: {limited[0].run_id} is of the first {limited[0].record['limit']} items alone "
                "(--limit); give a run on all items, or one that was stopped when it was decided"
            )
    if len({(run.name, run.condition_key) for run in of_task}) > 1:
        ids = [shown(str(run.folder)) for run in of_task]
        more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
        raise UsageError(
            f"--against {where}: {len(of_task)} runs of task {task.name!r} that differ in model or condition; give one "
            f"of them: {', '.join(ids[:_NAMED])}{more}"
        )
    return max(of_task, key=lambda run: (run.stopped is None, run.created, run.run_id))


def _opponent(
    task: Task, scorer: Scorer, metric: str, run: ScoredRun, margin: float | None, seed: int, alpha: float
) -> Opponent:
    where = f"--against {shown(str(run.folder))}"
    there = next((one for one in run.metrics if one.name == metric), None)
    if there is None:
        raise UsageError(
            f"{where}: it has no {metric!r}, only {', '.join(one.name for one in run.metrics)}; score it again "
            "(`slmbench score`), or choose another by --metrics"
        )
    _check_scorer(scorer, there, run, where)
    assert scorer.range is not None
    width = scorer.range[1] - scorer.range[0]
    if margin is not None and margin >= width:
        raise UsageError(f"--margin is {margin:g}; {metric!r} is from {scorer.range[0]:g} to {scorer.range[1]:g}")
    if run.stopped is not None:
        seed = run.stopped.seed
    examples = task.examples(task.spec.split)
    order = [examples[place].id for draw in drawn(examples, seed) for place in draw]
    _check_items(task, run, order, where)
    by_hash = run.scores[metric]
    scores = {item: by_hash[hashed] for item in order if (hashed := item_hash(item)) in by_hash}
    if unscored := [item for item in order[: len(run.items)] if item not in scores]:
        raise UsageError(f"{where}: {len(unscored):,} items have no score in {metric!r}, as {unscored[0]!r}")
    return Opponent(
        name=run.name,
        format=str(run.record.get("format")),
        run_id=run.run_id,
        folder=str(run.folder),
        samples_sha256=str(run.record["samples_sha256"]).removeprefix("sha256:"),
        metric=metric,
        scores=scores,
        higher_is_better=scorer.higher_is_better,
        bounds=scorer.range,
        has=None if run.stopped is None else run.stopped.n,
        seed=seed,
        margin=margin,
        alpha=alpha,
    )


def _metric(task: Task) -> tuple[Scorer, str]:
    """What is compared: the task's primary metric, or its first. Raises UsageError for one that can't be."""
    every = [(scorer, value) for scorer in task.scorers for value in scorer.values]
    scorer, metric = next((one for one in every if one[1] == task.spec.primary), every[0])
    if not scorer.pooled and scorer.range is not None:
        return scorer, metric
    why = "is made of all items at once" if scorer.pooled else "has no lowest and highest score"
    able = list(dict.fromkeys(one.name for one in task.scorers if not one.pooled and one.range is not None))
    raise UsageError(
        f"--until {DECIDED}: {metric!r} of task {task.name!r} {why}, so it can't be compared item by item; "
        + (f"choose another: --metrics {' or '.join(able)}" if able else "the task has no other metric")
    )


def _check_scorer(scorer: Scorer, there: MetricPart, run: ScoredRun, where: str) -> None:
    weights = {scorer.name: [*scorer.values, scorer.weights_sha256()]} if scorer.weights_sha256 else {}
    here = there.model_copy(update={"scorer": scorer.name, "version": scorer.version})
    if metric_key({"scorer": {"weights": weights}}, here) != run.metric_key(there.name):
        raise UsageError(
            f"{where}: its {there.name!r} was scored by another version than {scorer.version}, which is here; score it "
            f"again (`slmbench score {shown(str(run.folder))}`), and give what that makes"
        )


def _check_items(task: Task, run: ScoredRun, order: Sequence[str], where: str) -> None:
    """Raises UsageError unless a run's items are the task's, or the first of the random order."""
    ids, stopped = dict(zip(map(item_hash, order), order, strict=True)), run.stopped
    theirs: list[int] = run.items.items.tolist()
    here = f"task {task.name!r} here has {len(order):,}"
    if stopped is None and set(theirs) != ids.keys():
        lacking = [item for hashed, item in ids.items() if hashed not in set(theirs)]
        said = f"it lacks {len(lacking):,} of these, as {lacking[0]!r}" if lacking else "it has others"
        raise UsageError(
            f"{where}: it has {len(theirs):,} items, {here}, and {said}; give a run on the same items, or run it again"
        )
    if stopped is not None and theirs != list(ids)[: len(theirs)]:
        raise UsageError(
            f"{where}: it was stopped after {len(theirs):,} items of a random order that is not this one's (seed "
            f"{stopped.seed}; {here}); give a run on the same items, or run it again"
        )
    told, by_id = run.record["dataset"], {one.id: one for one in task.examples(task.spec.split)}
    same = told.get("items_sha256") in (None, items_sha256(task, [by_id[ids[hashed]] for hashed in theirs]))
    if not same and told.get("content_sha256") != digest_rows(task.rows(task.spec.split).rows):
        raise UsageError(
            f"{where}: its items have the ids of those of task {task.name!r} here, but the rows have changed since; "
            "run it again on these"
        )
