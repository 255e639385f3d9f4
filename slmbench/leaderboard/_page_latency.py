"""How long an item takes alone, a task a column: what a person waits for."""

from __future__ import annotations

from collections.abc import Mapping

from slmbench.leaderboard._records import ScoredRun
from slmbench.leaderboard.table import Leaderboard
from slmbench.leaderboard.texts import duration
from slmbench.values import JsonObject


def latencies(leaderboard: Leaderboard, runs: Mapping[str, ScoredRun]) -> JsonObject | None:
    """Median and 90th percentile of the seconds an item, of runs with one item after another; None without such.

    tasks: their names; rows: (a row's name, a text a task).
    """
    found: dict[str, dict[str, str]] = {}
    tasks: dict[str, None] = {}
    for row in leaderboard.rows:
        for run in (runs[cell.run_id] for cell in row.cells.values() if cell.run_id in runs):
            shown = _shown(run.record["cost"])
            if run.record.get("latency") is not None and shown is not None:
                tasks[run.task] = None
                found.setdefault(row.name, {})[run.task] = shown
    rows = [(name, [cells.get(task, "\u2014") for task in tasks]) for name, cells in found.items()]
    return {"tasks": list(tasks), "rows": rows} if tasks else None


def _shown(cost: JsonObject) -> str | None:
    known = [value for percent in (50, 90) if (value := cost.get(f"latency_p{percent}_ms")) is not None]
    if len(known) < 2:
        return None
    return " / ".join(duration(value / 1000) if value >= 950 else f"{value:.0f} ms" for value in known)
