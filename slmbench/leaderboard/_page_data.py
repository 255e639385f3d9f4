"""What a page knows at once: columns, rows and cells, compact, and the names of the data files that have the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from slmbench.leaderboard._page_items import PagedItems
from slmbench.leaderboard._records import ScoredRun
from slmbench.leaderboard.table import (
    BEST,
    Leaderboard,
    LeaderboardCell,
    LeaderboardColumn,
    LeaderboardRow,
    Notice,
)
from slmbench.values import Estimate, JsonObject

CLAIMS = (None, BEST, "not told apart")
COSTS = (
    ("parameters", "Parameters", "count", 1.0, "of the model"),
    ("adapter_parameters", "Adapter parameters", "count", 1.0, "that the adapter adds"),
    ("adapter_bytes", "Adapter file", "bytes", 1.0, "size of the adapter's file"),
    ("train_s", "Training", "duration", 1.0, "time that the adapter's training took; the mean over its seeds"),
    ("latency_p50_ms", "Latency", "duration", 1e-3, "median time of an item that is alone (--latency)"),
    ("seconds", "Evaluation", "duration", 1.0, "time over the tasks that all models have"),
    ("ram_peak_B", "Peak memory", "bytes", 1.0, "of the process, the largest of all runs"),
    ("vram_peak_B", "Peak GPU memory", "bytes", 1.0, "the largest of all runs"),
    ("model_B", "Model file", "bytes", 1.0, "of the weights' files on disk"),
    ("load_s", "Loading", "duration", 1.0, "time that the weights took to load"),
    ("prefill_tokens_per_s", "Reads a second", "count", 1.0, "tokens of a prompt, one stream alone (--speed)"),
    ("decode_tokens_per_s", "Writes a second", "count", 1.0, "tokens of a text, one stream alone (--speed)"),
    ("tokens_in", "Tokens in", "count", 1.0, "of all prompts of the tasks that all models have"),
    ("tokens_out", "Tokens out", "count", 1.0, "of all answers of the tasks that all models have"),
)
"""(key of a row's cost, what people call it, the form it is shown in, what makes it a base unit, what it is)."""

OF_ADAPTERS = frozenset({"adapter_parameters", "adapter_bytes", "train_s"})
_SIZE = re.compile(r"^(.*?[a-z].*?)[-_. ]?\d+(?:\.\d+)?[kmb](?![a-z])", re.IGNORECASE)


def page_data(
    leaderboard: Leaderboard,
    runs: Mapping[str, ScoredRun],
    items: Mapping[str, PagedItems],
    row_files: Sequence[str],
    run_file: str,
    about: str,
) -> JsonObject:
    """items: condition's key -> its items, in the order of `conditions`. row_files: a data file a row."""
    conditions = {column.condition.key: column.condition for column in leaderboard.columns}
    places = {key: place for place, key in enumerate(items)}
    common = {column.key: _common_n(leaderboard, column) for column in leaderboard.columns}
    costs = [cost for cost in COSTS if any(row.cost.get(cost[0]) is not None for row in leaderboard.rows)]
    return {
        "suite": leaderboard.suite,
        "about": about,
        "aggregate": _aggregate(leaderboard),
        "conditions": [
            {
                "task": conditions[key].task,
                "label": conditions[key].label,
                "items": paged.name,
                "clustered": paged.clustered,
            }
            for key, paged in items.items()
        ],
        "columns": [_column(column, leaderboard, runs, places) for column in leaderboard.columns],
        "costs": [
            [key, label, form, told, len({_cost(row, key) for row in leaderboard.rows}) > 1]
            for key, label, form, _, told in costs
        ],
        "rows": [
            _row(row, leaderboard, name, [(cost[0], cost[3]) for cost in costs], common)
            for row, name in zip(leaderboard.rows, row_files, strict=True)
        ],
        "notices": notices(leaderboard.notices),
        "runs": run_file,
    }


def family(model: str) -> str:
    """What models of several sizes share in their names: `SmolLM2` of SmolLM2-135M-Instruct."""
    name = model.rstrip("/").rpartition("/")[2] or model
    sized = _SIZE.match(name)
    return (sized.group(1) if sized else re.split(r"[-_ ]", name)[0]).strip("-_. ") or name


def notices(told: Sequence[Notice]) -> list[tuple[str, list[str]]]:
    """(the sentence that stands for all of a kind, the cases); of a notice without cases it is said alone."""
    return [(one.text, list(one.details) or [one.text]) for one in told]


def mean_about(leaderboard: Leaderboard) -> str:
    """What the mean is, behind the word: `of the primary metrics of 3 tasks, ...`."""
    return f"of the primary metrics of {leaderboard.averaged}, 0 at chance and 1 at the best score"


def rounded(value: float) -> float:
    """Six digits, which is more than any interval leaves."""
    return float(f"{value:.6g}")


def _aggregate(leaderboard: Leaderboard) -> JsonObject | None:
    if leaderboard.aggregate is None or not leaderboard.averages:
        return None
    return {
        "label": f"{leaderboard.averaged}, chance-normalised",
        "about": mean_about(leaderboard),
        "tasks": len(leaderboard.aggregate.columns),
        "ranked": sum(row.mean_rank_low is not None for row in leaderboard.rows),
    }


def _column(
    column: LeaderboardColumn, leaderboard: Leaderboard, runs: Mapping[str, ScoredRun], places: Mapping[str, int]
) -> JsonObject:
    return {
        "key": column.key,
        "task": column.task,
        "metric": column.metric_label,
        "cond": places[column.condition.key],
        "primary": column.primary,
        "up": column.higher_is_better,
        "chance": column.chance,
        "worst": column.worst,
        "best": column.best,
        "ranked": column.ranked,
        "detect": column.detectable,
        "n": _common_n(leaderboard, column),
        "inProcess": column.in_process,
        "bounds": _bounds(column, leaderboard, runs),
    }


def _bounds(
    column: LeaderboardColumn, leaderboard: Leaderboard, runs: Mapping[str, ScoredRun]
) -> tuple[float, float] | None:
    """What an item's score can be; None if there are no bounds, or if the scores are pseudo-values."""
    cells = (row.cells[column.key] for row in leaderboard.rows if column.key in row.cells)
    run = next((runs[cell.run_id] for cell in cells if cell.run_id in runs), None)
    metrics = run.metrics if run is not None else ()
    return next((one.bounds for one in metrics if one.name == column.metric and not one.pooled), None)


def _row(
    row: LeaderboardRow,
    leaderboard: Leaderboard,
    name: str,
    costs: Sequence[tuple[str, float]],
    common: Mapping[str, int | None],
) -> JsonObject:
    known = [(_cost(row, key), unit) for key, unit in costs]
    return {
        "name": row.name,
        "model": row.model,
        "adapter": None if row.adapter is None else f"{row.adapter} ({row.variant})" if row.variant else row.adapter,
        "quant": row.quantization,
        "method": row.method,
        "family": family(row.model),
        "badges": list(row.badges),
        "seeds": len(row.seeds),
        "cost": [None if value is None else rounded(value * unit) for value, unit in known],
        "mean": _mean(row) if leaderboard.averages else None,
        "cells": [
            None if (cell := row.cells.get(column.key)) is None else _cell(cell, common[column.key])
            for column in leaderboard.columns
        ],
        "chunk": name,
        "runs": len({one for cell in row.cells.values() for one in cell.run_ids}),
    }


def _cost(row: LeaderboardRow, key: str) -> float | int | None:
    """Nothing, rather than not known, of the adapter that a model alone doesn't have. A merged model was trained."""
    free = key in OF_ADAPTERS and row.adapter is None and row.method is None
    return 0 if free else row.cost.get(key)


def _mean(row: LeaderboardRow) -> JsonObject | None:
    """Of the tasks; low and high are None if there is no interval, ranks if the row is not ranked. n: items."""
    if row.aggregate is None:
        return None
    value, low, high = _ends(row.aggregate)
    return {
        "value": value,
        "low": low,
        "high": high,
        "rank_low": row.mean_rank_low,
        "rank_high": row.mean_rank_high,
        "claim": row.mean_claim,
        "method": row.aggregate.method,
        "n": row.aggregate.n,
    }


def _ends(made: Estimate) -> list[float | None]:
    known = made.method != "none"
    return [rounded(made.value), rounded(made.ci_low) if known else None, rounded(made.ci_high) if known else None]


def _cell(cell: LeaderboardCell, column_n: int | None) -> list[object]:
    """[value, low, high, rank low, rank high, claim, n, badges], without what is nothing at its end.

    column_n: how many items all of the column's cells have, which needn't be told of each.
    """
    n = 0 if cell.estimate.n == column_n else cell.estimate.n
    made: list[object] = [*_ends(cell.estimate), cell.rank_low or 0, cell.rank_high or 0]
    made += [CLAIMS.index(cell.claim), n, list(cell.badges)]
    while not made[-1] and len(made) > 3:
        made.pop()
    return made


def _common_n(leaderboard: Leaderboard, column: LeaderboardColumn) -> int | None:
    counts = {row.cells[column.key].estimate.n for row in leaderboard.rows if column.key in row.cells}
    return counts.pop() if len(counts) == 1 else None
