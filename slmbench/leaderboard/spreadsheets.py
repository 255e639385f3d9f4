"""A leaderboard's CSV files: a line a score, and a line a notice, for data frames and spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slmbench.leaderboard.table import Leaderboard
from slmbench.visible import visible

# A spreadsheet takes text that starts with one of these for a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

_ROW = ("name", "model", "adapter", "variant", "quantization", "method", "rank", "recipe", "badges")
_ESTIMATE = {
    "value": "",
    "stderr": "stderr",
    "ci_low": "ci_low",
    "ci_high": "ci_high",
    "method": "interval",
    "n": "n",
    "rank_low": "rank_low",
    "rank_high": "rank_high",
    "claim": "claim",
}
_COLUMN = {
    "key": "column",
    "task": "task",
    "metric": "metric",
    "metric_version": "metric_version",
    "primary": "primary",
    "higher_is_better": "higher_is_better",
    "chance": "chance",
    "worst": "worst",
    "best": "best",
    "in_process": "in_process",
    "ranked": "n_ranked",
    "detectable": "detectable",
}
_CONDITION = {
    "label": "condition",
    **{name: name for name in ("format", "shots", "cot", "version", "limit", "max_tokens", "source")},
    "n": "n_items",
    "key": "comparability_key",
}
_RUNS = {"created": "created", "seed": "eval_seeds", "train_seed": "train_seeds", "single_stream": "single_stream"}
_SUMS = {"cut": "n_cut_at_max_tokens", "stopped": "n_ended_by_stop"}


def render_csv(leaderboard: Leaderboard) -> str:
    """One line a score (long form); numbers stay numbers, text can't be a formula.

    A line has all that leaderboard.json has of the score, and of its row, the row's mean, its column, its condition and
    its runs; lists are joined by blanks (NA in them is not known), badges by `; `. Only leaderboard.json has each run's
    own cost, the list of tasks that could count in the mean, published numbers and measures. What isn't known is empty.
    `in_mean` and `in_cost`: whether the column counts in the mean, and its task in seconds and tokens. `ranked`:
    whether this score is. Notices are in `render_notices`.
    """
    content = leaderboard.as_json()
    conditions = {one["key"]: one for one in content["conditions"]}
    averaged = set((content["aggregate"] or {"columns": []})["columns"])
    lines: list[dict[str, object]] = []
    for row in content["rows"]:
        mean, cost = row.get("aggregate", {}), row["cost"]
        who = {key: row.get(key) for key in _ROW} | {"row_seeds": row.get("seeds")}
        who |= {f"mean_{name}".rstrip("_"): mean.get(key) for key, name in _ESTIMATE.items()}
        for column in content["columns"]:
            if (cell := row["scores"].get(column["key"])) is None:
                continue
            asked = conditions[column["condition"]]
            ids = cell.get("run_ids", [cell["run_id"]])
            runs = [content["runs"][one] for one in ids if one in content["runs"]]
            line = {"suite": content["suite"], **who, "in_mean": column["key"] in averaged}
            line |= {name: column.get(key) for key, name in _COLUMN.items()}
            line |= {name: asked.get(key) for key, name in _CONDITION.items()}
            line |= {name or "value": cell.get(key) for key, name in _ESTIMATE.items()}
            line |= {"ranked": "rank_low" in cell, "cell_badges": cell["badges"], "run_id": cell["run_id"]}
            line |= {"run_ids": ids, "seeds": cell.get("seeds"), "values": cell.get("values")}
            line |= {name: [run.get(key) for run in runs] for key, name in _RUNS.items()}
            line |= {name: sum(run[key] for run in runs) for key, name in _SUMS.items()}
            lines.append(line | {"in_cost": column["task"] in content["cost_tasks"], **cost})
    return _written(list(lines[0]) if lines else ["suite", *_ROW], lines)


def render_notices(leaderboard: Leaderboard) -> str:
    """One line a case of a notice, behind the sentence that stands for all of its cases; one line if it has none."""
    lines = [
        {"kind": notice.kind, "text": notice.text, "detail": detail}
        for notice in leaderboard.notices
        for detail in notice.details or ("",)
    ]
    return _written(["kind", "text", "detail"], lines)


def _written(head: Sequence[str], lines: Iterable[Mapping[str, object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([_cell(name, line[name]) for name in head] for line in lines)
    return buffer.getvalue()


def _cell(name: str, value: Any) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        if all(one is None for one in value):
            return None
        parts = ("NA" if one is None else str(one).lower() if isinstance(one, bool) else str(one) for one in value)
        return csv_text(("; " if name.endswith("badges") else " ").join(parts))
    return csv_text(value) if isinstance(value, str) else value


def csv_text(text: str) -> str:
    """text for a CSV cell: controls made visible, and `'` before what a spreadsheet would run (=, +, -, @, tab, CR)."""
    risky = text.startswith(_FORMULA_STARTS) or text.lstrip().startswith(_FORMULA_STARTS)
    return ("'" if risky else "") + visible(text)
