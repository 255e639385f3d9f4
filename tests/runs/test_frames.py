"""Runs and samples as tables, beside what their files say."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

import slmbench
from slmbench.cli import main
from slmbench.errors import SlmbenchError, UsageError
from slmbench.runs import RunRecord, SampleRecord, _frames
from tests.leaderboard.conftest import make_run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    make_run(tmp_path, "one", {"f1": [0.5, 1.0, 0.25], "exact": [0, 1, 0]}, model="small", clusters=["a", None, "a"])
    make_run(tmp_path, "two", [1, 0], adapter="note", task="other", created="2026-11-21T10:00:00Z")
    make_run(tmp_path, "off", [1, 0], status="invalidated")
    return tmp_path


def test_the_package_is_what_opens_runs_and_a_sequence_of_them(out: Path) -> None:
    runs = slmbench.runs(out)
    assert [run.run_id for run in runs] == ["one", "two"] and isinstance(runs[0], slmbench.Run)
    assert [run.run_id for run in slmbench.runs(str(out), model="small")] == ["one"]
    assert [run.run_id for run in slmbench.runs(out / "runs" / "two", out)[:1].samples().to_arrow()["run_id"][:0]] == []
    assert len(slmbench.runs(out / "runs" / "two", out)) == 2
    assert [run.run_id for run in slmbench.runs(out, task="other")] == ["two"]
    with pytest.raises(UsageError, match="no such folder"):
        slmbench.runs(out / "nowhere")


def test_a_run_is_a_row_for_each_of_its_metrics(out: Path) -> None:
    frame = slmbench.runs(out).to_pandas()
    assert frame["metric"].tolist() == ["f1", "exact", "exact_match/strict"]
    for row, run in zip(frame.to_dict("records"), [*(["one"] * 2), "two"], strict=True):
        record = json.loads((out / "runs" / run / "run.json").read_text())
        metric = next(one for one in record["metrics"] if one["name"] == row["metric"])
        assert [row[key] for key in ("value", "se", "ci_lo", "ci_hi", "n")] == [
            metric[key] for key in ("value", "se", "ci_lo", "ci_hi", "n")
        ]
        assert row["tokens_out"] == record["cost"]["tokens_out"] and row["model"] == record["model"]["name"]
    assert frame["adapter_rank"].tolist()[2] == 16 and frame["adapter_rank"].isna().tolist() == [True, True, False]


def test_samples_are_the_lines_of_their_files(out: Path) -> None:
    frame = slmbench.runs(out).samples().to_pandas()
    lines = [json.loads(line) for run in ("one", "two") for line in (out / "runs" / run / "samples.jsonl").open()]
    assert frame["item_id"].tolist() == [line["item_id"] for line in lines]
    assert frame["output"].tolist() == [line["output"] for line in lines]
    assert [list(one) for one in frame["references"]] == [line["references"] for line in lines]
    assert frame["scores.f1"].tolist()[:3] == [0.5, 1.0, 0.25] and frame["scores.f1"].isna().tolist()[3:] == [
        True,
        True,
    ]
    assert frame.groupby("run_id")["scores.exact_match/strict"].mean()["two"] == 0.5


def test_every_field_of_a_sample_has_a_column_and_every_place_of_a_run_is_there() -> None:
    assert {*_frames._SAMPLE_COLUMNS} == {*SampleRecord.model_fields} - {"version", "scores", "adapter"} | {
        "answered_by"
    }
    for place, _ in _frames._RUN_COLUMNS.values():
        model = RunRecord
        for part in place.split(".")[:-1]:
            annotation = model.model_fields[part].annotation
            model = next(one for one in getattr(annotation, "__args__", (annotation,)) if hasattr(one, "model_fields"))
        assert place.split(".")[-1] in model.model_fields, place


def test_texts_and_numbers_that_no_table_can_hold_are_replaced(tmp_path: Path) -> None:
    odd = {"output": "half \ud83d", "gold": 10**30, "parts": {"f": ["\udc00", 1]}, "references": ["\ud83d\ude00", "x"]}
    make_run(tmp_path, "odd", [1, 0], samples=[odd])
    row = slmbench.runs(tmp_path).samples().to_arrow().to_pylist()[0]
    assert row["output"] == "half \ufffd" and row["gold"] is None and row["references"] == ["\U0001f600", "x"]
    assert json.loads(row["parts"]) == {"f": ["\udc00", 1]}


def test_a_run_that_is_not_what_it_claims_is_left_out_and_named(out: Path) -> None:
    (out / "runs" / "one" / "run.json").write_text("{}")
    runs = slmbench.runs(out)
    assert [run.run_id for run in runs] == ["two"] and "run.json" in str(runs.problems[0])
    path = out / "runs" / "two" / "samples.jsonl"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(SlmbenchError, match="was changed after the run"):
        runs.samples().to_arrow()


def test_an_export_is_two_tables_that_others_read(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = out / "tables"
    assert main(["runs", "export", str(out), "--parquet", "--out", str(made)]) == 0
    samples = parquet.read_table(made / "samples.parquet")
    assert samples.equals(slmbench.runs(out).samples().to_arrow())
    assert pd.read_parquet(made / "runs.parquet")["value"].tolist() == slmbench.runs(out).to_pandas()["value"].tolist()
    assert sorted(path.name for path in made.iterdir()) == ["runs.parquet", "samples.parquet"]
    assert main(["runs", "export", str(out), "--out", str(made)]) == 2
    assert "add --parquet, --format lm-eval" in capsys.readouterr().err


@pytest.mark.parametrize("which", ["flag", "record"])
def test_texts_that_are_withheld_are_in_no_table(which: str, tmp_path: Path) -> None:
    make_run(tmp_path, "one", [1, 0], changes={"no_texts": True} if which == "record" else {})
    flags = ["--no-texts"] if which == "flag" else []
    assert main(["runs", "export", str(tmp_path), "--parquet", "--out", str(tmp_path / "t"), *flags]) == 0
    table = parquet.read_table(tmp_path / "t" / "samples.parquet")
    assert "shuffled" not in str(table.to_pylist()) and "output 1" not in str(table.to_pylist())
    assert (
        table["scores.exact_match/strict"].to_pylist() == [1.0, 0.0] and table.schema.field("gold").type == pa.int64()
    )
