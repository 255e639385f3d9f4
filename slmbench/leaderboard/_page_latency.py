"""How long an item takes alone: what a person waits for."""

from __future__ import annotations

from collections.abc import Iterable

from slmbench.leaderboard._records import ScoredRun
from slmbench.leaderboard.texts import duration
from slmbench.values import JsonObject


def latencies(runs: Iterable[ScoredRun]) -> list[tuple[str, str]]:
    """(task, median and 90th percentile of the time an item took) of runs with one item after another."""
    return [
        (run.task, shown)
        for run in runs
        if run.record.get("latency") is not None and (shown := _shown(run.record["cost"])) is not None
    ]


def _shown(cost: JsonObject) -> str | None:
    known = [value for percent in (50, 90) if (value := cost.get(f"latency_p{percent}_ms")) is not None]
    if len(known) < 2:
        return None
    return " / ".join(duration(value / 1000) if value >= 950 else f"{value:.0f} ms" for value in known)
