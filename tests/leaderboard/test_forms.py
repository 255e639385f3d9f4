"""Every fact of leaderboard.json is in the CSV files too, and what a reader needs of it in the text forms."""

from __future__ import annotations

import csv
import html
import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from slmbench.cli import main
from slmbench.cli.schema import json_schema
from slmbench.leaderboard import build_leaderboard, load_runs, render_text
from slmbench.leaderboard.spreadsheets import csv_text
from slmbench.leaderboard.texts import interval, number, rank_range, short_interval
from slmbench.leaderboard.writers import markdown_text

# Field of leaderboard.json -> column of leaderboard.csv; a field that isn't here has its own name there.
NAMES = {
    "suite": "suite",
    "aggregate.columns": "in_mean",
    "cost_tasks": "in_cost",
    "columns[].key": "column",
    "columns[].ranked": "n_ranked",
    "conditions[].key": "comparability_key",
    "conditions[].label": "condition",
    "conditions[].n": "n_items",
    "rows[].seeds": "row_seeds",
    "rows[].aggregate.value": "mean",
    "rows[].aggregate.method": "mean_interval",
    "rows[].scores.*.method": "interval",
    "rows[].scores.*.badges": "cell_badges",
    "runs.*.seed": "eval_seeds",
    "runs.*.train_seed": "train_seeds",
    "runs.*.cut": "n_cut_at_max_tokens",
    "runs.*.stopped": "n_ended_by_stop",
}
# What only leaderboard.json has: docs/results.md says so.
ALONE = {"schema", "aggregate.name", "aggregate.tasks", "runs.*.cost"}
# What is told by another field of the line.
TWICE = {"conditions[].task", "conditions[].slug", "columns[].condition", "runs.*.task", "runs.*.condition"}
NOTICES = {"notices[].kind": "kind", "notices[].text": "text", "notices[].details": "detail"}


@pytest.fixture
def written(write_run, tmp_path, capsys) -> tuple[dict[str, Any], list[dict[str, str]], Path]:
    """A leaderboard with something in nearly every field: its JSON, the lines of its CSV, its folder."""
    for seed in (0, 1):
        changes = {"adapter.train_seed": seed, "adapter.sha256": str(seed) * 64, "adapter.setting_sha256": "a" * 64}
        changes |= {"adapter.method": "lora", "remarks": {"cut at max_tokens": 2, "ended by stop": 1}}
        write_run(f"seed-{seed}", [1] * (20 + seed) + [0] * 4, adapter=f"=s-seed{seed}", changes=changes, chance=0.25)
        write_run(f"two-{seed}", [1, 0] * 10, adapter=f"=s-seed{seed}", changes=changes, task="nano_code")
    write_run("base", [0, 1] * 12, chance=0.25)
    chat = {"format": "chat", "model.quantization": "nf4", "cot": "steps", "generation": {"max_gen_toks": 9}}
    write_run("chat", [0, 1] * 12, key="chat", chance=0.25, changes=chat)
    for rank in (4, 8):
        digest = {
            "adapter.rank": rank,
            "adapter.sha256": f"{rank}" * 64,
            "generation": {"max_gen_toks": 9},
            "cot": "steps",
        }
        write_run(f"rank-{rank}", [0, 1] * 12, adapter="v", chance=0.25, changes=digest)
    write_run("half", [0, 1] * 5, limit=10, key="half", changes={"dataset.n": 10})
    other = {"sandbox": {"tier": "namespaces", "timeout_s": 3.0, "examine": "in_process"}}
    write_run("code", [1, 1, 0, 0] * 5, task="nano_code", changes=other)
    write_run("alone", [-1.5, 2.0], task="open", changes={"latency": "one by one"})
    assert main(["leaderboard", str(tmp_path), "--out", str(tmp_path / "board"), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    folder = tmp_path / "board"
    assert content == json.loads((folder / "leaderboard.json").read_text())
    with (folder / "leaderboard.csv").open(newline="", encoding="utf-8") as file:
        return content, list(csv.DictReader(file)), folder


def fields(content: dict[str, Any], line: dict[str, str]) -> dict[str, Any]:
    """Field of leaderboard.json -> its value for a line of the CSV."""
    row = next(row for row in content["rows"] if csv_text(row["name"]) == line["name"])
    column = next(column for column in content["columns"] if column["key"] == line["column"])
    cell = row["scores"][column["key"]]
    runs = [content["runs"][one] for one in cell.get("run_ids", [cell["run_id"]])]
    sums = {name: sum(run[name] for run in runs) for name in ("cut", "stopped")}
    parts = {
        "": {"suite": content["suite"], "cost_tasks": column["task"] in content["cost_tasks"]},
        "aggregate.": {"columns": column["key"] in content["aggregate"]["columns"]},
        "conditions[].": next(one for one in content["conditions"] if one["key"] == column["condition"]),
        "columns[].": column,
        "rows[].": row,
        "rows[].aggregate.": row.get("aggregate", {}),
        "rows[].scores.*.": {"run_ids": [cell["run_id"]]} | cell,
        "rows[].cost.": row["cost"],
        "runs.*.": {
            name: [run.get(name) for run in runs] for name in ("created", "seed", "train_seed", "single_stream")
        }
        | sums,
    }
    return {at + name: value for at, part in parts.items() for name, value in part.items()}


def csv_form(name: str, value: Any) -> Any:
    if isinstance(value, list):
        joined = ("; " if name.endswith("badges") else " ").join("NA" if one is None else str(one) for one in value)
        return csv_text(joined.replace("True", "true")) if any(one is not None for one in value) else ""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else csv_text(value) if isinstance(value, str) else str(value)


def test_every_fact_of_the_json_is_in_the_csv_or_in_a_list_of_what_is_not(written) -> None:
    content, lines, folder = written
    schema = json_schema("leaderboard")
    walked = runpy.run_path("docs/records.py")["rows"](schema, schema["$defs"])
    inner = {"rows[].aggregate", "rows[].scores", "rows[].cost"}
    leaves = [name for name, holds, _ in walked if (name not in inner and "." in name) or "object" not in holds]
    leaves = [name for name in leaves if name not in ("conditions", "columns", "rows", "runs", "notices", "aggregate")]
    # They are no scores of a row and a column: a line of the CSV is one.
    leaves = [name for name in leaves if name.partition("[]")[0] not in ("published", "measures")]
    assert {*NAMES, *ALONE, *TWICE, *NOTICES} <= set(leaves)
    assert len(lines) == sum(len(row["scores"]) for row in content["rows"])
    filled = set()
    for line in lines:
        of = fields(content, line)
        for field in set(leaves) - ALONE - TWICE - NOTICES.keys():
            last = field.rpartition(".")[2]
            name = NAMES.get(field, f"mean_{last}" if field.startswith("rows[].aggregate.") else last)
            assert line[name] == csv_form(name, of.get(field)), (field, name)
            filled.update([field] if line[name] else [])
        assert line["ranked"] == str("rows[].scores.*.rank_low" in of).lower()
        assert None not in line and len(line) == len(set(line))
    # Nothing was compared that is empty on all lines, but for what no run here can have.
    assert set(leaves) - filled - ALONE - TWICE - NOTICES.keys() == {
        *("suite", "columns[].metric_version", "rows[].cost.latency_p50_ms", "rows[].cost.vram_peak_B"),
        *(f"rows[].cost.{name}" for name in ("prefill_tokens_per_s", "decode_tokens_per_s", "load_s", "model_B")),
    }
    with (folder / "notices.csv").open(newline="", encoding="utf-8") as file:
        told = list(csv.DictReader(file))
    said = [(one["kind"], one["text"], case) for one in content["notices"] for case in one["details"] or [""]]
    assert [(one["kind"], one["text"], one["detail"]) for one in told] == [
        (csv_text(kind), csv_text(text), csv_text(case)) for kind, text, case in said
    ]


def test_scores_ranks_claims_badges_and_notices_are_in_all_forms_that_people_read(written, tmp_path) -> None:
    content, _, folder = written
    markdown = (folder / "leaderboard.md").read_text()
    page = html.unescape((folder / "index.html").read_text())
    text = " ".join(render_text(build_leaderboard(load_runs(tmp_path)[0]), 200, color=False).split())
    marks = {"best": ("**", " *"), "not told apart": ("*", " ="), None: ("", "")}
    for row in content["rows"]:
        assert row["name"] in text and markdown_text(row["name"]) in markdown and row["name"] in page
        for badge in row["badges"]:
            assert f"({markdown_text(badge)})" in markdown and badge in text and badge in page
        for made in (*row["scores"].values(), *([row["aggregate"]] if "aggregate" in row else [])):
            known = made["ci_low"] is not None
            ends = (made["ci_low"], made["ci_high"], made["method"])
            bold, mark = marks[made.get("claim")]
            shown = f"{bold}{number(made['value'])}{bold}" + (interval(*ends) if known else "")
            if "rank_low" in made:
                shown += f" ({rank_range(made['rank_low'], made['rank_high'])}"
            assert shown in markdown
            assert number(made["value"]) + (short_interval(*ends) if known else "") + mark in text
    for notice in content["notices"]:
        assert notice["text"] in text and notice["text"] in page and markdown_text(notice["text"]) in markdown
