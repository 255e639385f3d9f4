"""One table of what a reader of a small model asks: how good, how long, how many tokens, how much memory."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from slmbench.errors import FileError
from slmbench.leaderboard._records import ScoredRun
from slmbench.leaderboard._rows import adapter_of, number_of
from slmbench.leaderboard._samples import read_samples
from slmbench.leaderboard.table import (
    Condition,
    Economy,
    Leaderboard,
    LeaderboardColumn,
    LeaderboardRow,
    MeasureLine,
    PartlyMeasured,
    Waiting,
)
from slmbench.statistics.aggregate import aggregate_estimate
from slmbench.values import Estimate

_T = TypeVar("_T")
ROUGE = "rougeL"
BERT = "bertscore"
_Z = 1.959963984540054
# With fewer items no two of them are far enough apart for 95%.
_FEWEST = 6
_TOKENS = ("tokens", "json_tokens", "plain_tokens")

Economies = Mapping[tuple[str, str, str], Economy | str]
"""(model, task, format) -> what a record costs, or why that isn't known."""


def measures_of(
    leaderboard: Leaderboard, runs: Sequence[ScoredRun], tasks: Collection[str], economies: Economies
) -> tuple[MeasureLine, ...]:
    """A line for each row, format and task of `tasks`, before them one over all tasks if there are several.

    runs: those that the leaderboard was built from; latencies are of their samples, which are read here.
    """
    if not tasks:
        return ()
    by_id = {run.run_id: run for run in runs}
    blocks: list[list[MeasureLine]] = []
    for row in leaderboard.rows:
        by_format: dict[str, list[MeasureLine]] = {}
        for condition, columns in _conditions(leaderboard, row, tasks):
            line = _line(row, condition, columns, by_id, runs, economies)
            if line is not None:
                by_format.setdefault(line.format, []).append(line)
        blocks += by_format.values()
    whole = _tasks_of([line for lines in blocks for line in lines])
    made: list[MeasureLine] = []
    for lines in blocks:
        several = len({line.task for line in lines}) > 1
        made += [*([_over_tasks(lines, whole)] if several else []), *lines]
    return tuple(made)


def _conditions(
    leaderboard: Leaderboard, row: LeaderboardRow, tasks: Collection[str]
) -> Iterator[tuple[Condition, list[LeaderboardColumn]]]:
    found: dict[str, tuple[Condition, list[LeaderboardColumn]]] = {}
    for column in leaderboard.columns:
        if column.task in tasks and column.key in row.cells:
            found.setdefault(column.condition.key, (column.condition, []))[1].append(column)
    yield from found.values()


def _line(
    row: LeaderboardRow,
    condition: Condition,
    columns: Sequence[LeaderboardColumn],
    by_id: Mapping[str, ScoredRun],
    runs: Sequence[ScoredRun],
    economies: Economies,
) -> MeasureLine | None:
    primary = next((column for column in columns if column.primary), columns[0])
    shown = [by_id[one] for column in columns for one in row.cells[column.key].run_ids if one in by_id]
    if not shown:
        return None
    first = shown[0]
    whose = [run for run in runs if run.condition_key == condition.key and _who(run) in {_who(one) for one in shown}]
    alone = [run for run in whose if run.record.get("latency") is not None]
    waiting = _waiting(max(alone, key=lambda run: (run.created, run.run_id))) if alone else None
    format = condition.format or ""
    economy = economies.get((first.model, condition.task, format), "")
    costs = [run.record["cost"] for run in whose]
    memory = {key: [value for cost in costs if (value := number_of(cost.get(key))) is not None] for key in _MEMORY}
    of = next((key for key in _MEMORY if memory[key]), None)
    written = [
        tokens / run.n_samples
        for run in shown
        if run.n_samples and (tokens := number_of(run.record["cost"].get("tokens_out"))) is not None
    ]
    scored = any(_is(column, ROUGE) for column in columns)
    return MeasureLine(
        row=row.name,
        format=format,
        task=condition.task,
        condition=condition.label,
        waiting=waiting,
        rouge=_score(row, columns, ROUGE),
        bert=_score(row, columns, BERT),
        other=None if scored else (primary.metric, row.cells[primary.key].estimate),
        answer_tokens=sum(written) / len(written) if written else None,
        economy=economy if isinstance(economy, Economy) else None,
        why_no_economy=economy if isinstance(economy, str) else "",
        memory_bytes=None if of is None else max(memory[of]),
        memory_of="" if of is None else _MEMORY[of],
        adapter_bytes=None if row.adapter is None else number_of(adapter_of(first).get("bytes")),
        badges=tuple(dict.fromkeys(badge for column in columns for badge in row.cells[column.key].badges)),
    )


_MEMORY = {"vram_peak_B": "GPU", "ram_peak_B": "process"}


def _who(run: ScoredRun) -> tuple[object, ...]:
    return run.model, run.quantization, run.adapter, adapter_of(run).get("sha256")


def _is(column: LeaderboardColumn, metric: str) -> bool:
    return column.metric == metric or column.metric.startswith(f"{metric}/")


def _score(row: LeaderboardRow, columns: Sequence[LeaderboardColumn], metric: str) -> Estimate | None:
    return next((row.cells[column.key].estimate for column in columns if _is(column, metric)), None)


def _waiting(run: ScoredRun) -> Waiting | None:
    """Of a run one item after another; None if its samples have gone, or say nothing."""
    try:
        taken = sorted(ms for sample in read_samples(run) if (ms := number_of(sample.get("latency_ms"))) is not None)
    except (OSError, FileError):
        return None
    return waiting_of(taken) if taken else None


def waiting_of(taken: Sequence[float]) -> Waiting:
    """taken: milliseconds of each item, from the shortest on.

    The median's interval is that of order statistics by the normal approximation of their binomial (David and Nagaraja
    2003, section 7.1); none of fewer than 6 items.
    """
    n = len(taken)
    median = (taken[(n - 1) // 2] + taken[n // 2]) / 2
    low = high = None
    if n >= _FEWEST:
        reach = _Z * math.sqrt(n) / 2
        low, high = taken[max(0, math.floor(n / 2 - reach))], taken[min(n - 1, math.ceil(n / 2 + reach))]
    return Waiting(median, low, high, sum(taken) / n, n)


def _tasks_of(every: Sequence[MeasureLine]) -> dict[str, set[str]]:
    """measure -> the tasks of the table that a mean of it has to be of; '' -> all of them.

    All, but for what is of some kinds of tasks alone, as scores are: those on which some row has it.
    """
    tasks = {line.task for line in every}
    scored = {line.task for line in every if line.rouge is not None}
    bert = scored | {line.task for line in every if line.bert is not None}
    written = {line.task for line in every if line.answer_tokens is not None}
    of_all = dict.fromkeys(("", "latency", "economy", "memory"), tasks)
    return of_all | {"rouge_l": scored, "bertscore": bert, "answer_tokens": written}


def _over_tasks(lines: Sequence[MeasureLine], whole: Mapping[str, set[str]]) -> MeasureLine:
    """Means in which each task counts the same, and the largest of memories, of what all tasks of `whole` have.

    whole: measure -> tasks. Of other tasks, two rows' numbers could not be compared.
    """
    first, tasks = lines[0], {line.task for line in lines}
    memory_of = next((line.memory_of for line in lines if line.memory_of), "")
    partly: list[PartlyMeasured] = []

    def of_all(measure: str, values: Sequence[_T | None]) -> list[_T]:
        there = tasks - {line.task for line, value in zip(lines, values, strict=True) if value is None}
        if whole[measure] <= there:
            return [value for value in values if value is not None]
        if there:
            partly.append(PartlyMeasured(measure, len(there), len(whole[measure])))
        return []

    waits = of_all("latency", [line.waiting for line in lines])
    rouge = of_all("rouge_l", [line.rouge for line in lines])
    bert = of_all("bertscore", [line.bert for line in lines])
    tokens = of_all("answer_tokens", [line.answer_tokens for line in lines])
    economies = of_all("economy", [line.economy for line in lines])
    memory = of_all("memory", [line.memory_bytes if line.memory_of == memory_of else None for line in lines])
    return MeasureLine(
        row=first.row,
        format=first.format,
        task="",
        condition="",
        waiting=_mean_waiting(waits) if waits else None,
        rouge=_mean_score(rouge),
        bert=_mean_score(bert),
        other=None,
        answer_tokens=_mean(tokens) if tokens else None,
        economy=_mean_economy(economies) if economies else None,
        why_no_economy=next((line.why_no_economy for line in lines if line.why_no_economy), ""),
        memory_bytes=max(memory) if memory else None,
        memory_of=memory_of if memory else "",
        adapter_bytes=first.adapter_bytes,
        badges=tuple(dict.fromkeys(badge for line in lines for badge in line.badges)),
        tasks=len(tasks),
        scored=len({line.task for line in lines if line.rouge is not None}),
        tasks_of=len(whole[""]),
        partly=tuple(partly),
    )


def _mean_waiting(made: Sequence[Waiting]) -> Waiting:
    median, mean = _mean([one.median for one in made]), _mean([one.mean for one in made])
    return Waiting(median, None, None, mean, sum(one.n for one in made))


def _mean_economy(made: Sequence[Economy]) -> Economy:
    tokens, json, plain = (_mean([getattr(one, key) for one in made]) for key in _TOKENS)
    return Economy(tokens, json, plain, sum(one.rows for one in made))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _mean_score(made: Sequence[Estimate]) -> Estimate | None:
    """The mean of the tasks' scores; its interval is over their items, the tasks themselves fixed."""
    return aggregate_estimate(made) if made else None
