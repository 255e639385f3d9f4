"""What can't be had is told for all data sets at once, before anything is begun, with the way to get each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.errors import OfflineError
from slmbench.models import load_model, resolve_model
from slmbench.task import load_task


@pytest.fixture(autouse=True)
def _no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


def test_an_evaluation_names_all_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "nano", "--tasks", "gsm8k,boolq,icd_coding,nano_note", "--out", "o"]) == 4
    said = capsys.readouterr().err
    for part in (
        "3 data sets are not on this machine:",
        "data set 'gsm8k' (openai/gsm8k, split 'test') is not in the local cache",
        "data set 'gsm8k' (openai/gsm8k, split 'train') is not in the local cache",
        "data set 'boolq' (google/boolq, split 'validation')",
        "put mimic_icd/test.jsonl (or .csv, .parquet) with the columns",
        "`slmbench data pull gsm8k boolq --to DIR` and set SLMBENCH_DATA=DIR",
        "`--data samples`",
    ):
        assert part in said
    assert said.count("slmbench data pull") == 1
    assert not (tmp_path / "o").exists()


def test_python_is_told_the_same() -> None:
    from slmbench.evaluation import EvaluationOptions, evaluate_tasks

    catalog = default_catalog()
    tasks = [load_task(name, catalog) for name in ("gsm8k", "boolq")]
    model = load_model(resolve_model("nano", catalog))
    with pytest.raises(OfflineError, match=r"(?s)2 data sets .*'gsm8k'.*'boolq'.*pull gsm8k boolq --to DIR"):
        evaluate_tasks(model, tasks, EvaluationOptions(out="o"))


RECIPE = """\
summary: s
model: nano
adapters: {one: {tasks: [gsm8k, nano_note]}, two: {tasks: [squad]}}
optim: {lr: 5e-3, batch: 2, steps: 2}
max_tokens: 64
evaluation: {tasks: [boolq, gsm8k]}
"""


@pytest.mark.parametrize("command", ["train", "run"])
def test_a_recipe_names_what_its_trainings_and_its_evaluation_lack(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    assert main([command, "./r.yaml", "--out", "o"]) == 4
    said = capsys.readouterr().err
    wanted = ["(openai/gsm8k, split 'train')", "(openai/gsm8k, split 'test')", "(google/boolq, split 'validation')"]
    for part in (*wanted, *(["(rajpurkar/squad, split 'train')"] if command == "run" else ["--on-contamination warn"])):
        assert part in said
    assert said.count("slmbench data pull") == 1


def test_check_says_once_how_to_have_all_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "boolq", "piqa", "--json"]) == 0
    said = capsys.readouterr()
    assert "pull them on a connected machine with `slmbench data pull boolq piqa --to DIR`" in said.err
    assert [report["ok"] for report in json.loads(said.out)] == [True, True]
