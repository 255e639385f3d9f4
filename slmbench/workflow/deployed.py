"""One result against another as whoever ships a file asks: what is lost, and what is won for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from slmbench.catalog import Catalog
from slmbench.errors import SlmbenchError, UsageError
from slmbench.leaderboard import read_runs
from slmbench.leaderboard.texts import held_name, number
from slmbench.paths import shown
from slmbench.runs import Run
from slmbench.task import LIKELIHOODS
from slmbench.workflow.compare import ComparedMetric, Comparison, compare_plan
from slmbench.workflow.sides import ComparePlan, row_of

_RATIOS = (
    ("decode_tokens_per_s", "{} the speed of writing"),
    ("prefill_tokens_per_s", "{} the speed of reading"),
    ("ram_peak_B", "{} the memory"),
    ("model_B", "{} the size on disk"),
)


def require_opponents(against: Sequence[str], out: str) -> None:
    """Raises UsageError for a run that is named neither by a folder nor by a row or id in `out`."""
    for one in against:
        if os.path.exists(one):
            continue
        if not os.path.isdir(os.path.join(out, "runs")):
            raise UsageError(f"--against {shown(one)}: no such folder, and no runs in {shown(out)} to look for it")
        row_of(one, out, read_runs([Path(out)]))


def against_lines(against: Sequence[str], runs: Sequence[Run], out: str, catalog: Catalog) -> Iterator[str]:
    """What each run loses and wins against each other one that has its task, a sentence each, or why there is none."""
    tasks = {other: _tasks_in(other, catalog) for other in against if os.path.exists(other)}
    for run in runs:
        name, task = _name(run), str(run.record["task"]["id"])
        # Of several, each may stand for tasks of its own.
        having = [other for other in against if task in tasks.get(other, (task,))]
        if not having:
            yield f"{', '.join(map(shown, against))}: no finished run of {task} there, so {name} is not compared"
        for other in having:
            there = other in tasks
            b = run.folder if there else str(run.record["run_id"])
            plan = ComparePlan(a=other, b=b, folders=() if there else (out,), tasks=(task,), items=0)
            try:
                yield deployed_sentence(name, compare_plan(plan, catalog))
            except SlmbenchError as error:
                yield f"{name} is not compared with {shown(other)} on {task}: {error}"


def _tasks_in(folder: str, catalog: Catalog) -> frozenset[str]:
    return frozenset(one.task for one in read_runs([Path(folder)], catalog).runs)


def _name(run: Run) -> str:
    model, adapter = run.record["model"], run.record.get("adapter")
    return held_name(model["name"], model.get("quantization")) + (f" + {adapter['name']}" if adapter else "")


def deployed_sentence(label: str, found: Comparison, *, costs: bool = True) -> str:
    """As `Q4_K_M loses .8 points on gsm8k [-2.1, .5], not told apart; 3.1x the speed of writing, 0.28x the memory`."""
    told = [
        _lost(metric, task.name)
        for task in found.tasks
        for metric in task.metrics
        if metric.primary or metric.name in LIKELIHOODS
    ]
    ratios = {cost.key: cost.ratio for cost in found.costs if costs}
    won = [form.format(f"{ratio:.2f}x") for key, form in _RATIOS if (ratio := ratios.get(key)) is not None]
    return "; ".join(filter(None, (f"{label} {'; '.join(told)}", ", ".join(won))))


def _lost(metric: ComparedMetric, task: str) -> str:
    gain, (low, high) = metric.gain, metric.gain_ends
    of = f"{metric.name} on {task}"
    amount = number(abs(gain)) if abs(gain) >= 0.0005 else "under 0.001"
    if gain == 0:
        what = f"changes nothing of {of}"
    elif metric.higher_is_better:
        what = f"{'gains' if gain > 0 else 'loses'} {amount} of {of}"
    else:
        what = f"takes {amount} {'less' if gain > 0 else 'more'} of {of}"
    if not metric.tested:
        return what
    verdict = "not told apart" if metric.verdict == "not told apart" else f"p = {metric.pair.p:.2g}"
    return f"{what} [{number(low)}, {number(high)}], {verdict}"
