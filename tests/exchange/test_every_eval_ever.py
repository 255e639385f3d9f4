"""Our runs as every_eval_ever's records, held to its own JSON schemas."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.errors import UsageError
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.exchange import export_every_eval_ever
from slmbench.models import load_model, resolve_model
from slmbench.runs import OpenRun, Run, SampleRecord
from slmbench.task import load_task

SCHEMAS = Path(__file__).parent / "schemas"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Real runs of nano of each kind of metric: binary, without a range, in a range, pooled, of programs."""
    nano, out = load_model(resolve_model("nano", default_catalog())), tmp_path_factory.mktemp("made")
    tasks = [load_task(name) for name in ("nano_choice", "nano_note", "nano_code")]
    tasks.append(load_task("pubmed_qa", data="samples"))
    return evaluate_tasks(nano, tasks, EvaluationOptions(out=str(out), limit=2))


def _faults(kind: str, value: Any) -> list[str]:
    from jsonschema import Draft7Validator

    schema = json.loads((SCHEMAS / f"{kind}.schema.json").read_text())
    Draft7Validator.check_schema(schema)
    return [f"{list(error.absolute_path)}: {error.message}" for error in Draft7Validator(schema).iter_errors(value)]


def test_the_schemas_find_what_is_wrong() -> None:
    assert _faults("eval", {"schema_version": "0.3.0"})
    assert _faults("instance_level_eval", {"sample_id": 5})


def test_every_record_holds_what_the_schemas_say(runs: list[Run], tmp_path: Path) -> None:
    written = export_every_eval_ever(runs, str(tmp_path), organization="A clinic")
    assert len(written) == 2 * len(runs)
    aggregates = [Path(path) for path in written if path.endswith(".json")]
    by_task = {}
    for path in aggregates:
        aggregate = json.loads(path.read_text())
        assert _faults("eval", aggregate) == []
        detailed = aggregate["detailed_evaluation_results"]
        samples = tmp_path / detailed["file_path"]
        assert samples.name == f"{path.stem}_samples.jsonl"
        assert hashlib.sha256(samples.read_bytes()).hexdigest() == detailed["checksum"]
        lines = [json.loads(line) for line in samples.read_text().splitlines()]
        assert len(lines) == detailed["total_rows"]
        ids = {result["evaluation_result_id"] for result in aggregate["evaluation_results"]}
        for line in lines:
            assert _faults("instance_level_eval", line) == []
            assert line["evaluation_id"] == aggregate["evaluation_id"]
            assert line["evaluation_result_id"] in ids
        by_task[path.parts[-4]] = aggregate
    for run in runs:
        results = by_task[run.record["task"]["id"]]["evaluation_results"]
        for metric, result in zip(run.record["metrics"], results, strict=True):
            assert result["score_details"]["score"] == metric["value"]
            assert result["metric_config"]["lower_is_better"] is not metric["higher_is_better"]
            told = result["score_details"]["uncertainty"]
            assert told["num_samples"] == metric["n"]
            if metric["method"] != "none":
                ends = told["confidence_interval"]
                assert (ends["lower"], ends["upper"]) == (metric["ci_lo"], metric["ci_hi"])
    assert by_task["nano_choice"]["evaluation_results"][2]["metric_config"]["max_score"] == "Infinity"
    assert export_every_eval_ever(runs, str(tmp_path), organization="A clinic") == written


def test_a_run_of_hostile_texts_is_written_for_others_parsers(runs: list[Run], tmp_path: Path) -> None:
    record = {key: value for key, value in runs[0].record.items() if key != "record_sha256"}
    record["model"] = {**record["model"], "name": "../../x\ud800", "id": "/home/me/model"}
    record["task"] = {**record["task"], "id": "../t"}
    rows = [{**row, "output": "\ud800</script>\u202e", "prompt": "\x1b]0;x"} for row in runs[0].samples()]
    folder = tmp_path / "runs" / "hostile"
    folder.mkdir(parents=True)
    odd = OpenRun(str(folder), record)
    run = odd.finish([SampleRecord(**row) for row in rows], {"metrics": record["metrics"], "cost": record["cost"]})
    with pytest.raises(UsageError, match="add --developer NAME"):
        export_every_eval_ever([run], str(tmp_path / "out"), organization="us")
    written = export_every_eval_ever([run], str(tmp_path / "out"), organization="us", developer="..")
    for path in map(Path, written):
        assert path.resolve().is_relative_to((tmp_path / "out" / "data").resolve())
        data = path.read_bytes()
        assert b"/home/me" not in data
        for line in data.decode().splitlines() if path.suffix == ".jsonl" else [data.decode()]:
            kind = "instance_level_eval" if path.suffix == ".jsonl" else "eval"
            assert _faults(kind, json.loads(line)) == []


def test_the_command_asks_for_what_runs_do_not_say(runs: list[Run], tmp_path: Path) -> None:
    call = ["runs", "export", runs[0].folder, "--format", "every-eval-ever", "--out", str(tmp_path)]
    assert main(call) == 2
    assert main([*call, "--organization", "us"]) == 0
    assert len(list(tmp_path.rglob("*.json"))) == 1


@pytest.mark.parametrize("format", ["every-eval-ever", "lm-eval"])
def test_texts_that_a_run_keeps_to_itself_do_not_go_out(runs: list[Run], tmp_path: Path, format: str) -> None:
    folder = Path(shutil.copytree(runs[1].folder, tmp_path / "runs" / "held"))
    Run(str(folder), runs[1].record).without_texts()
    call = ["runs", "export", str(folder), "--format", format, "--organization", "us", "--out", str(tmp_path / "out")]
    assert main(call) == 0
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    for row in runs[1].samples():
        for text in (row["prompt"], row["target"]):
            assert json.dumps(text)[1:-1].encode() not in written
