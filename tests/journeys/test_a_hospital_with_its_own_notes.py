"""A hospital's own notes, as a spreadsheet saved them, from the file to a leaderboard; at its end without a network."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from slmbench.cli import main
from tests.journeys.steps import board_of, runs_of, slmbench_offline

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


def journey(
    home: Path, model: str, name: str, capsys: Any, offline: list[str], *settings: str, steps: int, limit: int
) -> None:
    """From the file to a leaderboard, and the outcome of each step."""
    rows = spreadsheet(home / "notes.csv")
    drafted = ["new", "task", "notes", "--from", str(home / "notes.csv"), "--group", "patient_id", "--to", str(home)]
    assert main(drafted) == 0
    said = capsys.readouterr().err
    assert f"1 of {len(rows)} rows have no 'diagnosis' and are left out" in said
    assert "'note' asks, 'diagnosis' is one of 4 labels" in said
    assert "made up, none of them a row of the file" in said
    golden = (home / "tasks" / "notes" / "samples.jsonl").read_text(encoding="utf-8")
    assert golden and not [row for row in rows if json.dumps(row["note"])[1:-1] in golden]

    assert main(["check", "notes", "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["ok"] and report["problems"] == []
    assert set(report["formats"].values()) == {"ok"}
    assert report["splits"]["train"] + report["splits"]["test"] == len(rows) - 1
    assert report["splits"]["test"] >= limit

    overrides = [word for setting in (f"model={model}", *settings) for word in ("--set", setting)]
    out = home / "out"
    assert main(["train", "notes", "--out", str(out), *overrides]) == 0
    said = capsys.readouterr().err
    assert "contamination: " in said and "none shared" in said
    adapter = out / "adapters" / "notes"
    training = json.loads((adapter / "training.json").read_text(encoding="utf-8"))
    assert training["steps"] == steps and training["base"]["name"] == name
    trained_on = training["tasks"]["notes"]
    assert trained_on["rows"] == report["splits"]["train"] and trained_on["dropped"]["no diagnosis"] == 1

    # Behind the hospital's wall: nothing is fetched, and no note goes onto a page.
    words = ("eval", model, "--adapter", str(adapter), "--tasks", "notes", "--out", str(out), "--limit", str(limit))
    done = slmbench_offline(offline, *words, "--no-texts", SLMBENCH_PATH=str(home))
    assert "rows left out before rows are held out, as they have no 'diagnosis': 1" in done.stderr
    runs, board = runs_of(out), board_of(out / "leaderboard")
    assert sorted(runs) == sorted(board) == [name, f"{name} + notes"]
    for row, record in runs.items():
        assert (record["dataset"]["n"], record["status"]) == (limit, "ok")
        right = [sample["scores"]["accuracy"] for sample in record["samples"]]
        picked = [max(range(4), key=sample["loglikelihoods"].__getitem__) for sample in record["samples"]]
        assert right == [float(at == sample["gold"]) for at, sample in zip(picked, record["samples"], strict=True)]
        assert board[row]["scores"]["notes/accuracy"]["value"] == pytest.approx(sum(right) / limit)
    likelihoods = [[sample["loglikelihoods"] for sample in record["samples"]] for record in runs.values()]
    assert likelihoods[0] != likelihoods[1]
    written = {path.name: path.read_text(encoding="utf-8") for path in (out / "leaderboard").rglob("*.*")}
    assert "are kept out of this page" in written["index.html"]
    for text in written.values():
        assert "of patient" not in text and not [finding for finding in FINDINGS.values() if finding in text]
    # No patient is on both sides.
    sides = [{str(sample["cluster_id"]) for sample in runs[name]["samples"]}, _patients_trained(home)]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    assert (sides[0] | sides[1]) <= {row["patient_id"] for row in rows}


def _patients_trained(home: Path) -> set[str]:
    from slmbench.catalog import Catalog
    from slmbench.paths import bundled_root
    from slmbench.task import load_task

    task = load_task("notes", Catalog([bundled_root(), str(home)]))
    return {str(example.cluster) for example in task.examples("train")}


def test_from_a_spreadsheet_to_a_leaderboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], offline: list[str]
) -> None:
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    settings = ("optim.steps=12", "optim.batch=4", "max_tokens=96")
    journey(tmp_path, "nano", "nano", capsys, offline, *settings, steps=12, limit=8)


@pytest.mark.slow
@pytest.mark.realmodel
def test_with_a_real_model(
    smollm2: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    offline: list[str],
) -> None:
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    settings = ("optim.steps=2", "optim.batch=1", "optim.lr=1e-4", "optim.warmup_steps=0", "max_tokens=128")
    journey(tmp_path, smollm2, Path(smollm2).stem, capsys, offline, *settings, steps=2, limit=2)
