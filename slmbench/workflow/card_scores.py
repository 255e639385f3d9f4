"""The scores of a card: from the same table that a leaderboard shows, with the base beside them and the paired test."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from attrs import frozen

from slmbench.cards import CardScore, hardware_words
from slmbench.catalog import Catalog
from slmbench.errors import UsageError
from slmbench.leaderboard import Leaderboard, LoadedRuns, ScoredRun, build_leaderboard, rows_of
from slmbench.leaderboard.table import Condition, LeaderboardCell, LeaderboardColumn
from slmbench.task import PROMPTS
from slmbench.values import Estimate
from slmbench.workflow.compare import ComparedMetric, compare_sides
from slmbench.workflow.rank import primaries
from slmbench.workflow.sides import ComparedSide, ComparePlan

KEY_DIGITS = 12
_SAMPLES = (
    "on golden sample rows, written to show that a task runs: they are never ranked, and say nothing of how good it is"
)
_TWIN = "of a twin, a small copy with random weights: they show that a recipe runs, and nothing else"


@frozen
class MeasuredScores:
    """scores: a line each. limits: what a reader has to know of them. engines, machines: that computed them."""

    scores: tuple[CardScore, ...] = ()
    limits: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()


def measured(mine: Sequence[ScoredRun], base: Sequence[ScoredRun], catalog: Catalog) -> MeasuredScores:
    """The scores of runs of one thing, beside those of its base; metrics that judge no text are left out."""
    runs = [run for run in mine if run.task != PROMPTS]
    if not runs:
        return MeasuredScores()
    own = {run.run_id for run in runs}
    tasks = {run.task for run in runs}
    beside = [run for run in base if run.task in tasks and run.run_id not in own]
    primary = primaries(sorted(tasks), catalog)
    board = build_leaderboard([*runs, *beside], primary=primary)
    lines = list(_lines(board, runs, beside, catalog))
    limits = [notice.text for notice in board.notices]
    badges = {badge for line in lines for badge in line.badges}
    limits += [f"scores are {said}" for badge, said in (("samples", _SAMPLES), ("twin", _TWIN)) if badge in badges]
    machines = dict.fromkeys(filter(None, (hardware_words(run.record.get("hardware")) for run in runs)))
    engines = dict.fromkeys(str(run.record.get("engine_version") or run.record.get("engine")) for run in runs)
    return MeasuredScores(tuple(lines), tuple(limits), tuple(engines), tuple(machines))


def _lines(
    board: Leaderboard, mine: Sequence[ScoredRun], beside: Sequence[ScoredRun], catalog: Catalog
) -> Iterator[CardScore]:
    by_id = {run.run_id: run for run in mine}
    rows, several = rows_of(mine), len({run.model for run in mine}) > 1
    compared = _compared(mine, beside, catalog)
    for column in board.columns:
        cells = [row.cells[column.key] for row in board.rows if column.key in row.cells]
        own = [cell for cell in cells if cell.run_id in by_id]
        others = [cell for cell in cells if cell.run_id not in by_id]
        for cell in own:
            run = by_id[cell.run_id]
            part = next(metric for metric in run.metrics if metric.name == column.metric)
            if part.describes:
                continue
            asked = _asked(column.condition)
            if len(rows) > 1:
                which = run.model if several else run.quantization or "whole weights"
                asked = ", ".join(filter(None, (which, asked)))
            found = compared.get((run.run_id, column.metric))
            yield _line(column, cell, run, asked, others, found)


def _line(
    column: LeaderboardColumn,
    cell: LeaderboardCell,
    run: ScoredRun,
    asked: str,
    others: Sequence[LeaderboardCell],
    found: ComparedMetric | None,
) -> CardScore:
    made = None
    if found is not None and found.tested:
        pair = found.pair
        made = Estimate(pair.difference, pair.stderr, pair.ci_low, pair.ci_high, pair.n, pair.method)
        made = made if all(map(math.isfinite, (pair.ci_low, pair.ci_high))) else None
    dataset = run.record["dataset"]
    # Another row of this column is the base's, as nothing else was read.
    base = others[0].estimate if others and found is not None else None
    extra = [] if run.forced_base is None else ["forced base"]
    extra += [] if run.imported is None else [f"imported from {run.imported}"]
    return CardScore(
        task=column.task_label,
        metric=column.metric_label,
        key=column.condition.key[:KEY_DIGITS],
        asked=asked,
        shots=column.condition.shots,
        estimate=cell.estimate,
        higher_is_better=column.higher_is_better,
        primary=column.primary,
        source=str(dataset.get("source")),
        data=dataset.get("id"),
        revision=dataset.get("revision"),
        ended=str(run.record.get("ended") or ""),
        badges=(*cell.badges, *extra),
        base=base,
        difference=made,
        verdict="" if made is None or found is None else _verdict(found),
    )


def _verdict(found: ComparedMetric) -> str:
    """What is told of a difference: only what the test and the interval both say, as they are made in two ways."""
    low, high = found.gain_ends
    return found.verdict if low > 0 or high < 0 else "not told apart"


def _asked(condition: Condition) -> str:
    shots, cot = condition.shots, condition.cot
    parts = [
        "" if shots is None else f"{shots}-shot",
        condition.format or "",
        f"chain of thought {cot}" if cot not in (None, "off") else "",
        "" if condition.max_tokens is None else f"at most {condition.max_tokens} tokens",
    ]
    return ", ".join(part for part in parts if part)


def _compared(
    mine: Sequence[ScoredRun], beside: Sequence[ScoredRun], catalog: Catalog
) -> dict[tuple[str, str], ComparedMetric]:
    """(a run's id, metric) -> this against the base, on the items that both have."""
    found: dict[tuple[str, str], ComparedMetric] = {}
    for who in rows_of(mine):
        bases = [run for run in beside if run.quantization == who.quantization] or beside
        if not bases:
            continue
        a, b = ComparedSide(rows_of(bases)[0], ""), ComparedSide(who, "")
        try:
            made = compare_sides(a, b, ComparePlan(a=a.name, b=b.name, items=0), catalog, LoadedRuns(()))
        except UsageError:  # Asked of nothing that both have.
            continue
        for task in made.tasks:
            if task.pair.a[0].condition_key != task.pair.b[0].condition_key:
                continue
            for metric in task.metrics:
                for run in task.pair.b:
                    found[run.run_id, metric.name] = metric
    return found
