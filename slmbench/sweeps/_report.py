"""A sweep's files: JSON, CSV and Markdown, the page beside them, and the table for a terminal."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence

from slmbench.files import write_atomically
from slmbench.leaderboard.spreadsheets import csv_text
from slmbench.leaderboard.texts import INTERVALS, count, duration, interval, number, size
from slmbench.leaderboard.writers import markdown_text
from slmbench.statistics.seeds import spread_of
from slmbench.sweeps._page import render_page
from slmbench.sweeps._summary import COSTS, OF_ITEMS, Sweep, SweepColumn
from slmbench.values import Estimate, JsonObject
from slmbench.visible import visible

FORMS: dict[str, Callable[[float], str]] = {
    "parameters": count,
    "bytes": size,
    "train_s": duration,
    "memory_bytes": size,
}
HEADS = {"parameters": "trainable", "bytes": "adapter", "train_s": "training", "memory_bytes": "peak memory"}
_FRONT_COST = "parameters"


def sweep_json(sweep: Sweep) -> JsonObject:
    """The whole result as JSON holds it."""
    return {
        "schema": 1,
        "recipe": sweep.recipe,
        "axes": [{"key": axis.key, "values": list(axis.values)} for axis in sweep.axes],
        "columns": [
            {
                "key": column.key,
                "task": column.task,
                "metric": column.metric,
                "higher_is_better": column.higher_is_better,
                "chance": column.chance,
            }
            for column in sweep.columns
        ],
        "costs": [{"key": key, "label": label} for key, label in COSTS.items()],
        "bases": [
            {
                "model": model,
                "scores": {key: _score(score) for key, score in scores.items()},
                "fronts": {key: list(costs) for key, costs in sweep.base_fronts.get(model, {}).items()},
            }
            for model, scores in sweep.bases.items()
        ],
        "rows": [
            {
                "setting": row.setting,
                "adapter": row.adapter,
                "model": row.model,
                "changed": dict(row.changed),
                **({"targets": row.targets} if row.targets else {}),
                "seeds": list(row.seeds),
                "scores": {key: _score(score) for key, score in row.scores.items()},
                "costs": dict(row.costs),
                "fronts": {key: list(costs) for key, costs in row.fronts.items()},
                "folders": list(row.folders),
            }
            for row in sweep.rows
        ],
        "notices": list(sweep.notices),
        "failed": [{"point": point, "reason": reason} for point, reason in sweep.failures.items()],
    }


def write_sweep(sweep: Sweep, folder: str) -> list[str]:
    """Writes sweep.json, .csv, .md and index.html into a folder; returns their paths. Raises SlmbenchError."""
    contents = {
        "sweep.json": json.dumps(sweep_json(sweep), indent=1, allow_nan=False) + "\n",
        "sweep.csv": render_csv(sweep),
        "sweep.md": render_markdown(sweep),
        "index.html": render_page(sweep, FORMS, sweep_json(sweep)),
    }
    paths = []
    for name, content in contents.items():
        path = os.path.join(folder, name)
        write_atomically(path, content.encode())
        paths.append(path)
    return paths


def render_csv(sweep: Sweep) -> str:
    """One line a score, in long form; text can't be taken for a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    keys = [axis.key for axis in sweep.axes if axis.key != "seed"]
    layers = ["targets"] if sweep.targets else []
    head = ["setting", "model", "adapter", *layers, *keys, "seeds", "column", "higher_is_better"]
    writer.writerow([*head, "value", "ci_low", "ci_high", "n", "method", *COSTS, "front"])
    for model, scores in sweep.bases.items():
        for column in sweep.columns:
            if column.key in scores:
                names: list[object] = [csv_text("base"), csv_text(model), "", *("" for _ in (*layers, *keys)), ""]
                front = " ".join(sweep.base_fronts.get(model, {}).get(column.key, ()))
                writer.writerow([*names, *_csv_score(column, scores[column.key]), *(0 for _ in COSTS), front])
    for row in sweep.rows:
        for column in sweep.columns:
            if column.key in row.scores:
                values = [_csv_value(row.changed.get(key)) for key in keys]
                seeds = " ".join(map(str, row.seeds))
                names = [csv_text(row.setting), csv_text(row.model), csv_text(row.adapter)]
                names += [*(csv_text(row.targets) for _ in layers), *values, seeds]
                costs = [row.costs.get(cost) for cost in COSTS]
                front = " ".join(row.fronts.get(column.key, ()))
                writer.writerow([*names, *_csv_score(column, row.scores[column.key]), *costs, front])
    return buffer.getvalue()


def render_markdown(sweep: Sweep) -> str:
    """The table as GitHub-flavoured Markdown."""
    lines = [f"# Sweep: {markdown_text(sweep.recipe)}", ""]
    head, rows = _table(sweep, markdown_text)
    texts = 3 if sweep.targets else 2
    lines += [f"| {' | '.join(head)} |", f"| {' | '.join('---' if i < texts else '---:' for i in range(len(head)))} |"]
    lines += [f"| {' | '.join(cells)} |" for cells in rows]
    lines += ["", _legend(sweep)]
    if sweep.notices:
        lines += ["", "Notices:", "", *(f"- {markdown_text(notice)}" for notice in sweep.notices)]
    if sweep.failures:
        lines += ["", "Failed:", ""]
        lines += [f"- {markdown_text(point)}: {markdown_text(reason)}" for point, reason in sweep.failures.items()]
    return "\n".join(lines) + "\n"


def table_of(sweep: Sweep) -> tuple[list[str], list[list[str]], str]:
    """(head, rows, what the signs mean) for a terminal; the base's rows first."""
    head, rows = _table(sweep, visible)
    return head, rows, _legend(sweep)


def _table(sweep: Sweep, safe: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
    names = [safe(column.task if _alone(sweep, column) else column.key) for column in sweep.columns]
    costs = [cost for cost in COSTS if any(cost in row.costs for row in sweep.rows)]
    layers = ["targets"] if sweep.targets else []
    head = ["setting", "adapter", *layers, *names, *(HEADS[cost] for cost in costs)]
    rows = []
    mixed = len(sweep.spreads) > 1
    for model, scores in sweep.bases.items():
        fronts = sweep.base_fronts.get(model, {})
        shown = [_shown(scores.get(column.key), mixed) + _star(fronts, column) for column in sweep.columns]
        rows.append([safe(model), "none", *("none" for _ in layers), *shown, *("0" for _ in costs)])
    for row in sweep.rows:
        shown = [_shown(row.scores.get(column.key), mixed) + _star(row.fronts, column) for column in sweep.columns]
        amounts = [FORMS[cost](row.costs[cost]) if cost in row.costs else "" for cost in costs]
        rows.append([safe(row.setting), safe(row.adapter), *(safe(row.targets) for _ in layers), *shown, *amounts])
    return head, rows


def _legend(sweep: Sweep) -> str:
    spread = "over the items of one run"
    if "seeds" in sweep.spreads:
        seeds = max(len(row.seeds) for row in sweep.rows)
        spread = f"over {seeds} seeds" + (f"; {OF_ITEMS} {spread}" if "items" in sweep.spreads else "")
    said = (
        f"{INTERVALS} ({spread}); * on the Pareto front of score against trainable parameters, of which a base has none"
    )
    metrics = ", ".join(f"{column.task}: {column.metric}" for column in sweep.columns)
    return f"{said}. Scores: {metrics}." if metrics else said + "."


def _alone(sweep: Sweep, column: SweepColumn) -> bool:
    return sum(other.task == column.task for other in sweep.columns) == 1


def _star(fronts: Mapping[str, Sequence[str]], column: SweepColumn) -> str:
    return " *" if _FRONT_COST in fronts.get(column.key, ()) else ""


def _shown(score: Estimate | None, mixed: bool) -> str:
    """mixed: some intervals of the table are over seeds and some over items, which are marked then."""
    if score is None:
        return ""
    around = interval(score.ci_low, score.ci_high, score.method)
    return number(score.value) + around + (OF_ITEMS if mixed and spread_of(score) == "items" else "")


def _score(score: Estimate) -> JsonObject:
    return {
        "value": score.value,
        "ci_low": score.ci_low,
        "ci_high": score.ci_high,
        "n": score.n,
        "method": score.method,
    }


def _csv_score(column: SweepColumn, score: Estimate) -> list[object]:
    better = str(column.higher_is_better).lower()
    return [csv_text(column.key), better, score.value, score.ci_low, score.ci_high, score.n, score.method]


def _csv_value(value: object) -> str | float:
    if isinstance(value, int | float):
        return value
    return csv_text(value if isinstance(value, str) else json.dumps(value))
