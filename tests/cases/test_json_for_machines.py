"""What machines read of runs with one item, without variance or with nothing right is strict JSON, alone on stdout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slmbench.cli import main


def strict(text: str) -> Any:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_runs_that_leave_nothing_to_estimate_are_strict_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    tasks = "nano_note,nano_choice,nano_arithmetic"
    assert main(["eval", "nano", "--tasks", tasks, "--limit", "1", "--json", "--latency", "--out", str(out)]) == 0
    runs = strict(capsys.readouterr().out)
    assert [run["task"]["id"] for run in runs] == tasks.split(",")
    assert main(["leaderboard", str(out), "--json"]) == 0
    (row,) = strict(capsys.readouterr().out)["rows"]
    assert {key.partition("/")[0] for key in row["scores"]} == set(tasks.split(","))
    for score in row["scores"].values():
        assert score["n"] == 1 and {type(value) for value in score.values()} <= {int, float, str, list, type(None)}
    assert main(["data", "tokens", "nano_note", "--n", "1", "--json"]) == 0
    (costs,) = strict(capsys.readouterr().out)
    assert costs["rows"] == 1
    written = [path for path in out.rglob("*.json*") if path.is_file()]
    assert {path.name for path in written} >= {"run.json", "samples.jsonl", "leaderboard.json"}
    for path in written:
        text = path.read_text(encoding="utf-8")
        for part in text.splitlines() if path.suffix == ".jsonl" else [text]:
            strict(part)
