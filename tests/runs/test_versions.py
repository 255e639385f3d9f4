"""Records of other schemas, at the doors that people use: newer ones are refused and kept."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from slmbench.cli import main
from slmbench.errors import FileError
from slmbench.runs import READS, NewerRecord, SampleRecord, finished_run, read_training, write_training
from tests.leaderboard.conftest import make_run

NEWER = {
    "run.json": "has schema 2, and this slmbench reads 1: a newer one wrote it; install a newer slmbench",
    "samples.jsonl": "has schema 2, and this slmbench reads 1: a newer one wrote it; install a newer slmbench",
    "training.json": "has schema 4, and this slmbench reads 1 to 3: a newer one wrote it; install a newer slmbench",
}
OLDER = {
    "run.json": "has schema 0, and this slmbench reads 1: an older one wrote it; run it again",
    "samples.jsonl": "has schema 0, and this slmbench reads 1: an older one wrote it; run it again",
    "training.json": "has schema 0, and this slmbench reads 1 to 3: an older one wrote it; train it again",
}


def run_of(out: Path, kind: str, schema: int) -> Path:
    """A run whose record, or whose second sample, is of another schema; nothing else in it is as it is here."""
    if kind == "run.json":
        return make_run(out, "other", [1, 0], changes={"schema": schema, "model": "nano", "metrics": "elsewhere"})
    return make_run(out, "other", [1, 0], samples=[{}, {"schema": schema, "scores": "elsewhere"}])


@pytest.mark.parametrize("kind", ["run.json", "samples.jsonl"])
@pytest.mark.parametrize("words", [NEWER, OLDER])
def test_a_leaderboard_refuses_a_run_of_another_schema_by_name(
    kind: str, words: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = int(re.findall(r"\d+", words[kind])[0])
    folder = run_of(tmp_path, kind, schema)
    line = ":2:1" if kind == "samples.jsonl" else ""
    assert main(["leaderboard", str(tmp_path), "--out", str(tmp_path / "board")]) == 1
    assert f"{folder / kind}{line}: {words[kind]}\n" in capsys.readouterr().err
    assert not (tmp_path / "board").exists()


@pytest.mark.parametrize("kind", ["run.json", "samples.jsonl"])
def test_a_newer_run_is_not_written_over_and_an_older_one_is_run_again(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NewerRecord, match=re.escape(NEWER[kind])):
        finished_run(str(run_of(tmp_path / "newer", kind, 2)), {}.__getitem__)
    assert finished_run(str(run_of(tmp_path / "older", kind, 0)), {}.__getitem__) is None
    assert f"{OLDER[kind]}; or move the run's folder away; this task is run again\n" in capsys.readouterr().err


def test_a_newer_run_that_is_under_way_is_not_written_over(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "begun", [1, 0], changes={"schema": 2, "status": "started"})
    with pytest.raises(NewerRecord, match=re.escape(NEWER["run.json"])):
        finished_run(str(folder), {}.__getitem__)


def test_an_adapter_of_another_schema_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("safetensors")
    import numpy as np
    from safetensors.numpy import save_file

    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1, "target_modules": ["q"]}))
    save_file({"base_model.model.q.lora_A.weight": np.zeros((1, 2), np.float32)}, folder / "adapter_model.safetensors")
    for schema, words in ((4, NEWER), (0, OLDER)):
        (folder / "training.json").write_text(json.dumps({"schema": schema, "settings": "elsewhere"}))
        with pytest.raises(FileError, match=re.escape(words["training.json"])) as caught:
            read_training(folder)
        assert isinstance(caught.value, NewerRecord) == (words is NEWER)
        command = ["eval", "nano", "--tasks", "nano_choice", "--limit", "1", "--adapter", str(folder)]
        assert main([*command, "--out", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert f"training.json: {words['training.json']}" in said and "or remove the file" in said
    assert not (tmp_path / "out").exists()


def test_every_schema_that_is_read_is_read(tmp_path: Path) -> None:
    for schema in READS["training.json"]:
        write_training(tmp_path, {"schema": schema, "recipe": "r"})
        assert read_training(tmp_path).recipe == "r"
    (tmp_path / "training.json").write_text('{"recipe": "of before there were numbers", "later": {"key": 1}}')
    assert read_training(tmp_path).recipe == "of before there were numbers"
    folder = make_run(tmp_path, "one", [1, 0], samples=[{"schema": 1}, {}])
    assert finished_run(str(folder), {}.__getitem__) is not None


def test_a_key_of_no_model_is_read_past_in_every_part_and_written_in_none(tmp_path: Path) -> None:
    changes = {"colour": "red", "model.colour": "red", "metrics.0.colour": "red", "cost.colour": "red"}
    folder = make_run(tmp_path, "one", [1, 0], samples=[{"colour": "red"}], changes=changes)
    run = finished_run(str(folder), {}.__getitem__)
    assert run is not None and run.record["model"]["colour"] == "red"
    with pytest.raises(ValueError, match="colour"):
        SampleRecord(item_id="a", scores={}, colour="red")
    for place, record in (
        ("base.colour", {"base": {"name": "n", "id": "i", "location": "l", "colour": "red"}}),
        ("tasks.gsm8k.colour", {"tasks": {"gsm8k": {"colour": "red"}}}),
        ("curves.train.0.tasks.a.colour", {"curves": {"train": [{"step": 1, "tasks": {"a": {"colour": "red"}}}]}}),
        ("memory.forecast.largest_batch.colour", {"memory": {"forecast": {"largest_batch": {"colour": "red"}}}}),
    ):
        with pytest.raises(FileError, match=rf"training\.json: field {place} is not a key of this file"):
            write_training(tmp_path / "none", record)
    assert not (tmp_path / "none").exists()
