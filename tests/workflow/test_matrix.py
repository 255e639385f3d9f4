"""A small matrix done by real workers: trained, scored with the base loaded once, ranked; and done no second time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slmbench.cli import main

GRID = """
summary: Two seeds of one adapter, and its base.
recipes:
  - recipe: nano-quickstart
    only: [note]
    set: {adapters.note.steps: 2, rows: 8, optim.batch: 2}
  - recipe: nano-quickstart
    only: [choice]
    set: {adapters.choice.steps: 2, rows: 8, optim.batch: 2, memory_limit_gb: 0.01}
tasks: [nano_choice, nano_note]
limit: 2
seeds: 2
"""


@pytest.fixture
def matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text(GRID, encoding="utf-8")
    return tmp_path


def test_a_matrix_is_done_as_far_as_it_can_be_and_only_once(matrix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", "grid.yaml", "--dry-run", "--json"]) == 0
    jobs = json.loads(capsys.readouterr().out)
    assert [job["kind"] for job in jobs].count("train") == 4

    # One recipe may take no memory, so it is refused. What needs it is blocked, all else is done.
    assert main(["matrix", "grid.yaml", "--workers", "1", "--json"]) == 1
    told = capsys.readouterr()
    states = {one["name"]: one for one in json.loads(told.out)}
    assert sorted(one["state"] for one in states.values()) == ["blocked", "done", "done", "failed", "failed"]
    assert "alone: slmbench matrix run-job train-nano-quickstart" in told.err

    good = GRID.partition("  - recipe: nano-quickstart\n    only: [choice]")[0] + GRID[GRID.index("tasks:") :]
    (matrix / "grid.yaml").write_text(good, encoding="utf-8")
    assert main(["matrix", "grid.yaml", "--workers", "1"]) == 0
    capsys.readouterr()
    board = json.loads((matrix / "slmbench-matrix" / "leaderboard" / "leaderboard.json").read_text(encoding="utf-8"))
    assert {row["name"] for row in board["rows"]} == {"nano", "nano + note"}
    [tuned] = [row for row in board["rows"] if row["name"] == "nano + note"]
    assert sorted(tuned["seeds"]) == [0, 1]

    runs = sorted((matrix / "slmbench-matrix" / "runs").iterdir())
    before = [run.stat().st_mtime_ns for run in runs]
    assert len(runs) == 6
    assert main(["matrix", "grid.yaml", "--dry-run"]) == 0
    assert "0 of 3 jobs, 0 results to make" in capsys.readouterr().out
    assert main(["matrix", "grid.yaml", "--workers", "1"]) == 0
    assert [run.stat().st_mtime_ns for run in runs] == before

    capsys.readouterr()
    assert main(["matrix", "status", "slmbench-matrix", "--json"]) == 0
    stand = [one["state"] for one in json.loads(capsys.readouterr().out)]
    assert stand.count("done") == 3 and "running" not in stand


def test_a_matrix_as_a_script_has_a_line_a_job_by_waves(matrix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", "grid.yaml", "--emit", "shell", "--out", "the out"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("# wave")] == ["# wave 1", "# wave 2"]
    commands = [line for line in lines if line.startswith("slmbench matrix run-job ")]
    assert len(commands) == 5 and all(line.endswith(f" --out '{matrix}/the out'") for line in commands)
    assert "run-job train-" in commands[0] and "run-job evaluate-" in commands[-1]
    assert main(["matrix", "grid.yaml", "--emit", "slurm", "--out", "o"]) == 0
    script = capsys.readouterr().out
    assert "--array=0-3" in script and "--dependency=afterany:$after" in script
    # What was written down there is done by its key alone.
    assert main(["matrix", "run-job", "train-nothing", "--out", "o"]) == 2
    assert "no job 'train-nothing'" in capsys.readouterr().err
