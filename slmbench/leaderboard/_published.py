"""Published numbers beside those that were measured: which row each is of, and whether the two may be compared."""

from __future__ import annotations

import os
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
_MERGED = "merged: "
_OF_TASKS = ("shots", "format", "cot")
_OF_MODELS = "quantization"


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
        seen = set()
        for column in leaderboard.columns:
            cell = row.cells.get(column.key)
            if cell is None or column.task != one.task or cell.run_id not in runs:
                continue
            kind = _of_row(row, runs[cell.run_id], one)
            if kind is None:
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


def _of_row(row: LeaderboardRow, run: ScoredRun, one: PublishedNumber) -> str | None:
    """'' if a number is of this row, TWIN if it is of the model that this row has a twin of; None of any other one."""
    adapter, model = row.adapter, row.model
    base = run.record["model"].get("base")
    # A whole model, trained or merged: by its folder's name, with that of what it stands beside in a recipe's run.
    beside = base or os.path.basename(os.path.normpath(one.model))
    if one.adapter is not None and adapter is None and model in (one.adapter, f"{beside}-{one.adapter}"):
        # If its record doesn't say what it was made of, nothing else says that it is another one; it isn't compared.
        if base is None or same_model(one.model, base):
            return ""
        return TWIN if base.endswith(_TWINS) and same_model(one.model, base.removesuffix(_TWINS)) else None
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
    conditions = one.conditions
    of_adapters = {key: value for key, value in conditions.items() if key not in (*_OF_TASKS, _OF_MODELS)}
    of_adapter = [*_differing(of_adapters, column, run)]
    reasons += _differing({key: conditions[key] for key in _OF_TASKS if key in conditions}, column, run)
    reasons += of_adapter
    reasons += _held(one.under.quantization, run.quantization)
    # A setting that is told to differ makes other digests by itself.
    reasons += _made_otherwise(one, run, told=bool(of_adapter))
    return "; ".join(reasons)


def _held(wanted: str | None, ours: str | None) -> Iterator[str]:
    """What is wrong with how a base is held; of `nf4`, whether its constants are packed too is left open."""
    if wanted is None:
        if ours is not None:
            yield f"ours is held in {ours}"
    elif ours is None:
        yield f"held in {wanted} there, whole here"
    elif wanted.casefold() not in (ours.casefold(), ours.partition("+")[0].casefold()):
        yield f"held in {wanted} there, in {ours} here"


def _made_otherwise(one: PublishedNumber, run: ScoredRun, *, told: bool) -> Iterator[str]:
    """Why what was measured isn't what the recipe makes, though it is called so. told: how its settings differ is."""
    making, adapter, model = one.making, adapter_of(run), run.record["model"]
    if making is None:
        return
    if making.merged:
        made = _merged(adapter, model)
        if made is None:
            yield "nothing says what ours was merged of"
        elif not any(made[0] == method and set(made[1]) <= set(inputs) for method, inputs in making.merged):
            yield f"ours is {made[0]} of {', '.join(made[1])}"
        elif not adapter and model.get("base") is None:
            yield "nothing says what ours was made of"
        return
    record = adapter or model
    if {record.get("recipe_sha256"), record.get("setting_sha256")} & making.digests:
        return
    tasks = record.get("tasks") or []
    if not making.tasks:
        yield "the recipe trains no such adapter"
    elif adapter and tasks and not any(set(tasks) == set(its) for its in making.tasks):
        yield f"ours was trained on {', '.join(tasks)}"
    elif record.get("recipe_sha256") is None:
        yield "nothing says how ours was trained"
    elif not told:
        yield "ours was trained with other settings than the recipe's"


def _merged(adapter: Mapping[str, Any], model: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    """(method, names of inputs) of what was merged, by a run's record; None if it wasn't, or nothing says so."""
    if not adapter:
        merge = model.get("merge")
        return None if merge is None else (merge["method"], list(merge["inputs"]))
    told = adapter.get("method") or ""
    method, _, inputs = told.removeprefix(_MERGED).partition(" of ")
    return (method, inputs.split(", ")) if told.startswith(_MERGED) and inputs else None


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
