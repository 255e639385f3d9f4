"""Published numbers beside those that were measured: which row each is of, and whether the two may be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slmbench.leaderboard._records import TWIN, ScoredRun
from slmbench.leaderboard._rows import adapter_of
from slmbench.leaderboard.table import (
    INSIDE,
    BesideLine,
    Leaderboard,
    LeaderboardCell,
    LeaderboardColumn,
    LeaderboardRow,
)
from slmbench.leaderboard.texts import duration, interval, number
from slmbench.published import PublishedNumber, same_model, shown_setting
from slmbench.schema import LATENCY, OTHER
from slmbench.values import Estimate

NOT_MEASURED = "not measured here"
_TWINS = "-twin"
_OF_TASKS = ("shots", "format", "cot")


def set_beside(
    leaderboard: Leaderboard, runs: Mapping[str, ScoredRun], numbers: Sequence[PublishedNumber]
) -> tuple[BesideLine, ...]:
    """A line for each published number and each score of its row; one without a score where nothing was measured.

    runs: by run id, those of the cells.
    """
    return tuple(line for one in numbers for line in _lines(leaderboard, runs, one))


def _lines(leaderboard: Leaderboard, runs: Mapping[str, ScoredRun], one: PublishedNumber) -> Iterator[BesideLine]:
    if one.metric == OTHER:
        yield BesideLine(one, "", "", None, NOT_MEASURED, "", "slmbench has no such metric")
        return
    found = False
    for row in leaderboard.rows:
        kind = _of_row(row, one)
        if kind is None:
            continue
        seen = set()
        for column in leaderboard.columns:
            cell = row.cells.get(column.key)
            if cell is None or column.task != one.task or cell.run_id not in runs:
                continue
            if one.metric == LATENCY:
                if cell.run_id in seen:
                    continue
                seen.add(cell.run_id)
                made = _of_latency(one, row, column, cell, runs[cell.run_id], kind)
            elif column.metric != one.metric:
                continue
            else:
                made = _of_score(one, row, column, cell, runs[cell.run_id], kind)
            if made is not None:
                found = True
                yield made
    if not found:
        yield BesideLine(one, "", "", None, NOT_MEASURED, "", NOT_MEASURED)


def _of_row(row: LeaderboardRow, one: PublishedNumber) -> str | None:
    """'' if a number is of this row, TWIN if it is of the model that this row has a twin of; None of any other one."""
    adapter, model = row.adapter, row.model
    if one.adapter is not None and adapter is None and model == one.adapter:  # A whole model, trained or merged.
        return ""
    if adapter != one.adapter:
        return None
    if same_model(one.model, model):
        return ""
    return TWIN if model.endswith(_TWINS) and same_model(one.model, model.removesuffix(_TWINS)) else None


def _of_score(
    one: PublishedNumber,
    row: LeaderboardRow,
    column: LeaderboardColumn,
    cell: LeaderboardCell,
    run: ScoredRun,
    kind: str,
) -> BesideLine:
    made = cell.estimate
    known = made.method != "none"
    written = f"{number(made.value)}{interval(made.ci_low, made.ci_high, made.method)}, n {made.n}"
    why_not = _why_not(one, column, cell, run, kind)
    if not why_not and not known:
        why_not = "ours has no interval"
    return BesideLine(
        one,
        row.name,
        column.condition.label,
        made,
        written,
        "" if why_not else _verdict(one, made.ci_low, made.ci_high),
        why_not,
    )


def _of_latency(
    one: PublishedNumber,
    row: LeaderboardRow,
    column: LeaderboardColumn,
    cell: LeaderboardCell,
    run: ScoredRun,
    kind: str,
) -> BesideLine | None:
    """Of runs one item after another alone; None of any other run."""
    median, slow = (run.record["cost"].get(f"latency_p{percent}_ms") for percent in (50, 90))
    if run.record.get("latency") is None or median is None:
        return None
    written = f"median {duration(median / 1000)}"
    written += f", nine of ten within {duration(slow / 1000)}" if slow is not None else ""
    written += f", n {run.n_samples}"
    made = Estimate(median / 1000, 0.0, median / 1000, median / 1000, run.n_samples, "none")
    why_not = _why_not(one, column, cell, run, kind) or "seconds compare on the same machine alone"
    return BesideLine(one, row.name, column.condition.label, made, written, "", why_not)


def _why_not(one: PublishedNumber, column: LeaderboardColumn, cell: LeaderboardCell, run: ScoredRun, kind: str) -> str:
    """Why a number and a score can't be compared; '' if they can."""
    if one.fault:
        return "the published number can't be what it says"
    badges = dict.fromkeys((*((kind,) if kind else ()), *cell.badges))
    if TWIN in badges:  # Nothing of it is of that model.
        return f"ours is of a {TWIN}"
    reasons = [f"ours is of {', '.join(badges)}"] if badges else []
    return "; ".join([*reasons, *_differing(one.conditions, column, run)])


def _differing(asked: Mapping[str, Any], column: LeaderboardColumn, run: ScoredRun) -> Iterator[str]:
    """What a number was made under and a score wasn't, as far as it is known."""
    adapter = adapter_of(run)
    settings = adapter.get("settings") or {}
    for key, wanted in asked.items():
        if key in _OF_TASKS:
            ours = getattr(column.condition, key)
        else:
            ours = adapter.get("rank") if key == "rank" else settings.get(key)
        text = shown_setting(wanted)
        if ours is None:
            if key not in _OF_TASKS:
                yield f"{key} {text} there, unknown here"
            elif key != "cot" or wanted != "off":
                yield f"{key} {text} there, none here"
        elif shown_setting(ours).casefold() != text.casefold():
            yield f"{key} {text} there, {shown_setting(ours)} here"


def _verdict(one: PublishedNumber, low: float, high: float) -> str:
    if one.low > high:
        return "above our interval"
    return "below our interval" if one.high < low else INSIDE
