"""A hospital's own notes, as a spreadsheet saved them, from the file to a leaderboard; at its end without a network."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slmbench.cli import main

FINDINGS = {"R05": "a dry cough", "R07": "chest pain", "M54": "low back pain", "H57": "a red eye"}


def spreadsheet(path: Path, patients: int = 24) -> list[dict[str, str]]:
    """Notes of patients who come several times, as Excel saves them in Germany: a mark, semicolons, CRLF, gaps."""
    rng = random.Random(11)
    rows = []
    for patient in range(patients):
        code = rng.choice(list(FINDINGS))
        for visit in range(rng.randint(1, 5)):
            note = f"Visit {visit + 1} of patient {patient}; {FINDINGS[code]} for {rng.randint(1, 30)} days."
            rows.append({"patient_id": f"00{patient}", "note": note, "ward": "", "diagnosis": code})
    rows[3]["note"] = f'He said: "{FINDINGS[rows[3]["diagnosis"]]}",\nsince Monday.'
    rows[5]["diagnosis"] = ""
    with open(path, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    return rows


def without_network() -> list[str]:
    """What to put before a command so that it has no network, [] where the machine can't do that."""
    tool = shutil.which("unshare")
    if tool and subprocess.run([tool, "-rn", "true"], capture_output=True, check=False).returncode == 0:
        return [tool, "-rn"]
    return []


def slmbench(*words: str, env: dict[str, str], offline: bool = False) -> subprocess.CompletedProcess[str]:
    before = without_network() if offline else []
    command = [*before, sys.executable, "-m", "slmbench", *words]
    done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def journey(home: Path, model: str, capsys: Any, *settings: str, limit: int) -> dict[str, Any]:
    rows = spreadsheet(home / "notes.csv")
    env = {"SLMBENCH_PATH": str(home), "HF_HUB_OFFLINE": "1"}
    drafted = ["new", "task", "notes", "--from", str(home / "notes.csv"), "--group", "patient_id", "--to", str(home)]
    assert main(drafted) == 0
    said = capsys.readouterr().err
    assert f"1 of {len(rows)} rows have no 'diagnosis' and are left out" in said
    assert "'note' asks, 'diagnosis' is one of 4 labels" in said

    assert main(["check", "notes", "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["ok"] and report["splits"]["train"] + report["splits"]["test"] == len(rows) - 1

    overrides = [word for setting in (f"model={model}", *settings) for word in ("--set", setting)]
    out = home / "out"
    assert main(["train", "notes", "--out", str(out), *overrides]) == 0
    capsys.readouterr()
    assert (out / "adapters" / "notes" / "adapter_model.safetensors").is_file()

    adapter = str(out / "adapters" / "notes")
    words = ("eval", model, "--adapter", adapter, "--tasks", "notes", "--out", str(out), "--limit", str(limit))
    said = slmbench(*words, env=env, offline=True).stderr
    assert "rows left out before rows are held out, as they have no 'diagnosis': 1" in said
    training = json.loads((out / "adapters" / "notes" / "training.json").read_text())
    assert training["tasks"]["notes"]["dropped"]["no diagnosis"] == 1
    runs = [json.loads(path.read_text()) for path in sorted((out / "runs").glob("*/run.json"))]
    assert sorted(run["adapter"]["name"] if run["adapter"] else "" for run in runs) == ["", "notes"]
    assert all(run["dataset"]["n"] == limit for run in runs)
    board: dict[str, Any] = json.loads((out / "leaderboard" / "leaderboard.json").read_text())
    assert (out / "leaderboard" / "index.html").is_file()
    # No patient is on both sides.
    sides = [_patients(out), _patients_trained(home)]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    return board


def _patients(out: Path) -> set[str]:
    """Whose notes were evaluated, by what the runs say of each item."""
    lines = [line for file in (out / "runs").glob("*/samples.jsonl") for line in file.read_text().splitlines()]
    return {str(json.loads(line)["cluster_id"]) for line in lines}


def _patients_trained(home: Path) -> set[str]:
    from slmbench.catalog import Catalog
    from slmbench.paths import bundled_root
    from slmbench.task import load_task

    task = load_task("notes", Catalog([bundled_root(), str(home)]))
    return {str(example.cluster) for example in task.examples("train")}


def test_from_a_spreadsheet_to_a_leaderboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    board = journey(tmp_path, "nano", capsys, "optim.steps=12", "optim.batch=4", "max_tokens=96", limit=8)
    assert {row["model"] for row in board["rows"]} == {"nano"} and len(board["rows"]) == 2
    assert {column["task"] for column in board["columns"]} == {"notes"}


@pytest.mark.slow
@pytest.mark.realmodel
def test_with_a_real_model(
    smollm2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    settings = ("optim.steps=2", "optim.batch=1", "optim.lr=1e-4", "optim.warmup_steps=0", "max_tokens=128")
    board = journey(tmp_path, str(smollm2), capsys, *settings, limit=2)
    assert len(board["rows"]) == 2
