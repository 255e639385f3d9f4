"""`slmbench sweep` from options to files, on the embedded model."""

from __future__ import annotations

import json
import os
import sys

import pytest

from slmbench.cli import main

SMALL = ["--adapter", "note", "--set", "rows=16", "--set", "adapters.note.steps=2", "--set", "optim.batch=4",
         "--set", "evaluation.tasks=[nano_note]", "--set", "evaluation.limit=3"]  # fmt: skip


@pytest.fixture
def sweep(tmp_path, capsys):
    """sweep(options...) -> (exit code, stdout, stderr), into tmp_path."""

    def run(*options):
        code = main(["sweep", "nano-quickstart", *SMALL, "--out", str(tmp_path), *options])
        return code, *capsys.readouterr()

    return run


def weights(tmp_path, point):
    path = tmp_path / "points" / point / "adapters" / "note" / "adapter_model.safetensors"
    return path.read_bytes(), path.stat().st_mtime_ns


def test_a_sweep_goes_on_past_a_point_that_fails_and_again_where_it_was(sweep, tmp_path):
    over = ["--over", "rank=2,4", "--over", "lora.targets=all-linear,[nope]"]
    code, out, err = sweep(*over)
    assert code == 1
    assert "2 of 4 points have no result" in err and "nope" in err
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["setting", "adapter", "nano_note"]
    assert [line.split()[0] for line in lines[1:4]] == [
        "nano",
        "rank-2_targets-all-linear",
        "rank-4_targets-all-linear",
    ]
    data = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [row["changed"]["lora.rank"] for row in data["rows"]] == [2, 4]
    assert [entry["point"] for entry in data["failed"]] == ["rank-2_targets-nope", "rank-4_targets-nope"]
    assert data["rows"][1]["costs"]["parameters"] == 2 * data["rows"][0]["costs"]["parameters"]
    assert (tmp_path / "sweep" / "index.html").is_file()
    # The base is scored once, though every point asks for it.
    runs = sorted(os.listdir(tmp_path / "runs"))
    assert len([name for name in runs if name.startswith("nano__")]) == 1
    before = {point: weights(tmp_path, point) for point in ("rank-2_targets-all-linear", "rank-4_targets-all-linear")}

    code, out, err = sweep(*over, "--json")
    assert code == 1
    again = json.loads(out)
    assert again["rows"] == data["rows"]
    assert {point: weights(tmp_path, point) for point in before} == before
    assert sorted(os.listdir(tmp_path / "runs")) == runs


def test_seeds_are_averaged_and_change_the_training_alone(sweep, tmp_path):
    code, out, _ = sweep("--over", "rank=2", "--seeds", "2", "--json", "--metric", "rougeL")
    assert code == 0
    data = json.loads(out)
    (row,) = data["rows"]
    assert row["seeds"] == [0, 1] and list(row["scores"]) == ["nano_note/rougeL"]
    assert weights(tmp_path, "rank-2_seed-0")[0] != weights(tmp_path, "rank-2_seed-1")[0]
    assert len([name for name in os.listdir(tmp_path / "runs") if name.startswith("nano__")]) == 1
    written = [
        json.loads((tmp_path / "runs" / name / "run.json").read_text()) for name in os.listdir(tmp_path / "runs")
    ]
    values = [
        metric["value"]
        for run in written
        if run["adapter"] is not None
        for metric in run["metrics"]
        if metric["name"] == "rougeL"
    ]
    assert row["scores"]["nano_note/rougeL"]["value"] == pytest.approx(sum(values) / 2)


def test_a_dry_run_shows_the_points_and_trains_nothing(sweep, tmp_path):
    code, out, _ = sweep("--over", "rank=2,4", "--seeds", "5,6", "--dry-run")
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines()] == [
        "rank-2_seed-5", "rank-2_seed-6", "rank-4_seed-5", "rank-4_seed-6"]  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_no_line_of_the_table_is_wider_than_the_terminal(sweep, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    code, out, _ = sweep("--over", "rank=2")
    assert code == 0
    assert max(len(line) for line in out.splitlines()) <= 60
    heads = [line for line in out.splitlines() if line.startswith("setting")]
    assert len(heads) > 1 and all(line.split()[1] == "adapter" for line in heads)


def test_programs_that_nothing_can_jail_are_refused_before_anything_is_trained(sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "plan9")
    code, out, err = sweep("--over", "rank=2", "--set", "evaluation.tasks=[nano_note, nano_code]")
    assert (code, out) == (3, "")
    assert "nothing here can jail them" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "declares no `sweep`; say what to vary"),
        (["--over", "rank=0,5000"], "lora.rank: input should be"),
        (["--over", "rnk=1"], "--over rnk: unknown key 'rnk'; did you mean 'rank'?"),
        (["--over", "rank=1", "--adapter", "nope"], "has no adapter 'nope'"),
        (["--over", "rank=1", "--seeds", "no"], "expected how many, as 3"),
        (["--over", "evaluation.tasks=[nope]"], "unknown task 'nope'"),
        (["--over", "rank=2", "--metric", "bleu"], "no task here has the metric 'bleu'; known: nano_note/exact_match"),
    ],
)
def test_what_cant_work_is_said_before_anything_is_trained(sweep, tmp_path, options, said):
    code, out, err = sweep(*options)
    assert (code, out) == (2, "")
    assert said in err
    assert list(tmp_path.iterdir()) == []
