"""A run's files with anything in any place: refused by a message that names the file, or no number is another."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmbench.catalog import default_catalog
from slmbench.cli.schema import json_schema
from slmbench.errors import FileError
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.foreign import decode_json
from slmbench.leaderboard import build_leaderboard, load_runs
from slmbench.leaderboard._records import RunProblems
from slmbench.leaderboard.page import render_page
from slmbench.leaderboard.spreadsheets import render_csv
from slmbench.leaderboard.writers import render_markdown
from slmbench.models import load_model, resolve_model
from slmbench.runs import (
    READS,
    TRAINING,
    StoppedPart,
    _part,
    _record,
    _sample,
    finished_run,
    read_record,
    read_training,
    write_training,
)
from slmbench.runs._part import described
from slmbench.task import load_task
from tests.damage import GONE, Damage, damages, filled, places, put

# One of each kind that JSON has, and the numbers that trip readers.
OTHERS: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    7,
    10**30,
    0.5,
    -1e300,
    "",
    "x",
    "nan",
    [],
    [1],
    ["x"],
    {},
    {"a": 1},
)
RAW = ("NaN", "1e999", "-Infinity", "9" * 5000, '"\\ud800"', "[" * 3000 + "]" * 3000, '{"a": 1, "a": 2}')
RESULTS = {"metrics", "cost", "remarks", "created", "ended", "status", "schema", "samples_sha256", "record_sha256"}
RESULTS |= {"item_scores_sha256"}
# Who was scored, whether it was a random copy or the items are all that there are (of a set, or until it was decided),
# and what range a metric has, no other file can tell.
UNKNOWABLE = {
    ("limit",),
    ("adapter",),
    ("model", "quantization"),
    ("model", "twin"),
    *(("metrics", n, "range") for n in range(3)),
    ("stopped",),
    *(("stopped", name) for name in StoppedPart.model_fields),
}
FACTS = {"code", "packages", "hardware"}
POOLS: Any = {}.__getitem__  # No metric of these runs is pooled.


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of two real runs, one of choices and one of texts."""
    out = tmp_path_factory.mktemp("written")
    nano = load_model(resolve_model("nano", default_catalog()))
    evaluate_tasks(
        nano, [load_task("nano_choice"), load_task("nano_arithmetic")], EvaluationOptions(out=str(out), limit=3)
    )
    return out


@pytest.fixture
def run(written: Path, tmp_path: Path) -> Path:
    """The folder of a copy of the run of choices."""
    (folder,) = written.glob("runs/*nano_choice*")
    return Path(shutil.copytree(folder, tmp_path / "runs" / folder.name))


@pytest.fixture
def unsealed(run: Path) -> Path:
    """The same, as an earlier version wrote it, or as somebody who leaves the digest of the record's fields out."""
    record = json.loads((run / "run.json").read_text())
    del record["record_sha256"]
    earlier = filled(_record.RunRecord, record) | {"record_sha256": None}
    del earlier["item_scores_sha256"]
    (run / "run.json").write_text(json.dumps(earlier))
    return run


def read(value: Any, place: tuple[Any, ...]) -> Any:
    for part in place:
        value = value[part]
    return value


def numbers(folder: Path) -> Any:
    """What a leaderboard makes of a run, but for what it only shows; its page is made, too."""
    runs, _ = load_runs(folder)
    board = build_leaderboard(runs)
    assert render_page(board, runs) and render_csv(board) and render_markdown(board)
    made = board.as_json()
    return [(row["name"], row["scores"]) for row in made["rows"]], [column["key"] for column in made["columns"]]


def outcome(folder: Path) -> Any:
    """The numbers, or the message of the refusal."""
    try:
        return numbers(folder)
    except RunProblems as error:
        assert all(str(folder) in problem.path or folder.name in problem.path for problem in error.problems)
        return str(error)


def test_a_run_as_it_was_written_holds_what_the_models_say_and_nothing_else(written: Path) -> None:
    for folder in written.glob("runs/*"):
        record = read_record(folder)
        checked = _record.RunRecord.model_validate(record)
        assert record.keys() - {"schema"} <= checked.model_fields_set
        for part in ("model", "task", "dataset", "fewshot", "scorer", "code", "cost"):
            assert record[part].keys() == getattr(checked, part).model_fields_set, part
        assert all(m.keys() == c.model_fields_set for m, c in zip(record["metrics"], checked.metrics, strict=True))
        for line in (folder / "samples.jsonl").read_bytes().splitlines():
            assert json.loads(line).keys() == _sample.SampleRecord.model_validate(json.loads(line)).model_fields_set


def test_anything_in_any_place_of_a_record_is_refused_or_changes_no_number(unsealed: Path) -> None:
    run, path = unsealed, unsealed / "run.json"
    record = json.loads(path.read_text())
    whole, refused = numbers(run), 0
    for number, place in enumerate(places(record)):
        for other in (*OTHERS[number % 2 :: 2], GONE):  # By turns: which are odd is of the field's type.
            was = read(record, place)
            if type(other) is type(was) or (other is GONE and isinstance(place[-1], int)):
                continue  # Another text or number of the same kind is for the checks of means and hashes.
            path.write_text(json.dumps(put(record, place, other)))
            found = outcome(run)
            if isinstance(found, str):
                refused += 1
                # The field, or the one around it.
                told = (f"field {place[0]}", f"has {place[0]}", "samples.jsonl", "metric")
                assert any(one in found for one in told), (place, other)
            elif place[:3] not in UNKNOWABLE:
                assert found == whole, (place, other)
    assert refused > 500


@pytest.mark.parametrize("raw", RAW, ids=lambda raw: raw[:12])
def test_numbers_that_are_none_and_depth_are_refused_wherever_they_stand(raw: str, unsealed: Path) -> None:
    run, path = unsealed, unsealed / "run.json"
    record = json.loads(path.read_text())
    for place in (("schema",), ("cost", "seconds"), ("metrics", 0, "value"), ("hardware", "memory_B"), ("unknown",)):
        path.write_text(json.dumps(put(record, place, "HERE")).replace('"HERE"', raw))
        if raw == '"\\ud800"' and place[0] in ("unknown", "hardware"):
            numbers(run)  # A text like any other, which is shown as a sign.
            continue
        with pytest.raises(RunProblems, match=r"run\.json: "):
            load_runs(run)


def test_anything_in_any_place_of_a_sample_is_refused_or_changes_no_number(unsealed: Path) -> None:
    run = unsealed
    path, record = run / "samples.jsonl", json.loads((run / "run.json").read_text())
    lines = path.read_bytes().splitlines(keepends=True)
    sample, refused = filled(_sample.SampleRecord, json.loads(lines[1])), 0

    def write(changed: Any) -> None:
        data = lines[0] + json.dumps(changed).encode() + b"\n" + b"".join(lines[2:])
        path.write_bytes(data)
        # Its hash is mended, so that only what is read can tell.
        (run / "run.json").write_text(json.dumps(record | {"samples_sha256": hashlib.sha256(data).hexdigest()}))

    write(sample)
    whole = numbers(run)
    for place in places(sample):
        for other in (*OTHERS, GONE):
            if type(other) is type(read(sample, place)) or (other is GONE and isinstance(place[-1], int)):
                continue
            if place == ("cluster_id",) and (other is None or other is GONE or isinstance(other, str)):
                continue  # Items of one cluster are less than their number: another interval, and rightly.
            write(put(sample, place, other))
            found = outcome(run)
            if isinstance(found, str):
                refused += 1
                assert any(one in found for one in (f"field {place[0]}", f"has {place[0]}", "metric")), (place, other)
            else:
                assert found == whole, (place, other)
    assert refused > 200


def test_a_finished_run_is_taken_again_only_as_it_was_written(
    unsealed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, path = unsealed, unsealed / "run.json"
    record = json.loads(path.read_text())
    expected = {key: value for key, value in record.items() if key not in RESULTS | FACTS}
    assert finished_run(str(run), POOLS, expected).record == record
    for place in places(record):
        for other in (*OTHERS, GONE):
            was = read(record, place)
            same = other is GONE and (was is None or isinstance(place[-1], int))
            if same or (isinstance(other, bool) == isinstance(was, bool) and other == was):
                continue  # 0 is 0.0.
            changed = put(record, place, other)
            path.write_text(json.dumps(changed))
            capsys.readouterr()
            try:
                found = finished_run(str(run), POOLS, expected)
            except FileError as error:
                assert "a newer one wrote it" in str(error) and place == ("schema",)
                continue
            said = capsys.readouterr().err
            if found is None:
                told = ("run.json: field", "run.json: metric", "run.json: has schema", "samples.jsonl")
                assert any(one in said for one in told), (place, other)
                assert said.endswith("this task is run again\n")
            else:
                assert place[0] in RESULTS | FACTS or place in TOLD, (place, other)
                assert place[0] != "metrics" or place[2:] in ALLOWED, (place, other)
                assert repr(found)


# What an adapter's record says of the training: the same weights may have been trained twice.
TOLD = {("adapter", name) for name in _record.AdapterPart.model_fields} - {("adapter", "name"), ("adapter", "sha256")}
TOLD |= {("adapter", "tasks", 0), ("adapter", "choices", "k"), ("adapter", "owners", "k"), ("adapter", "settings", "k")}
# What a metric's entry says beside its value, its interval and its n.
ALLOWED = {
    *(("se",), ("chance",), ("n_error",), ("scorer",), ("version",), ("pooled",), ("method",), ("name",), ("range",)),
    *(("higher_is_better",), ("describes",), ("ci_lo",), ("ci_hi",), ("range", 0), ("range", 1)),
}


@settings(max_examples=200)
@given(data=st.data())
def test_whatever_is_changed_in_a_record_is_refused_or_left_out_and_said(
    data: st.DataObject, written: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (sound,) = written.glob("runs/*nano_choice*")
    folder = tmp_path_factory.getbasetemp() / "sealed" / "runs" / sound.name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder)
    record = json.loads((sound / "run.json").read_text())
    damage: Damage = data.draw(damages(record))
    (folder / "run.json").write_bytes(damage.data)
    try:
        runs, notices = load_runs(folder)
    except RunProblems as error:
        assert "run.json" in str(error)
        assert finished_run(str(folder), POOLS) is None
        return
    if not runs:
        assert len(notices) == 1 and damage.place == ("status",)
        return
    kept = decode_json(damage.data, "")
    # What no digest can tell of is the digest's own loss.
    digests = {"record_sha256": None, "record_sha256_": None}
    assert runs[0].record == kept and kept | digests == record | digests


@settings(max_examples=150)
@given(start=st.integers(0, 4000), length=st.integers(0, 6), new=st.binary(max_size=6), name=st.integers(0, 1))
def test_bytes_written_over_a_file_of_a_run_end_in_no_traceback(
    start: int, length: int, new: bytes, name: int, written: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (folder,) = written.glob("runs/*nano_choice*")
    copied = tmp_path_factory.getbasetemp() / "bytes" / "runs" / folder.name
    shutil.rmtree(copied, ignore_errors=True)
    shutil.copytree(folder, copied)
    path = copied / ("run.json", "samples.jsonl")[name]
    data = path.read_bytes()
    path.write_bytes(data[:start] + new + data[start + length :])
    try:
        runs, _ = load_runs(copied)
    except RunProblems as error:
        assert path.name in str(error)
    else:
        assert name == 0 or path.read_bytes() == data
        build_leaderboard(runs).as_json()
    finished_run(str(copied), POOLS)


def test_what_is_written_fits_the_schemas_that_are_exported(written: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    run, sample = (jsonschema.Draft202012Validator(json_schema(kind)) for kind in ("run", "sample"))
    for folder in written.glob("runs/*"):
        record = json.loads((folder / "run.json").read_text())
        assert [error.message for error in run.iter_errors(record)] == []
        assert list(run.iter_errors(record | {"metrics": []}))
        for line in (folder / "samples.jsonl").read_text().splitlines():
            assert [error.message for error in sample.iter_errors(json.loads(line))] == []


def test_a_record_that_has_a_key_of_no_model_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"training\.json: field colour is not a key of this file"):
        write_training(tmp_path, {"schema": READS[TRAINING][-1], "recipe": "r", "colour": "red"})
    assert not list(tmp_path.iterdir())
    write_training(tmp_path, {"schema": READS[TRAINING][-1], "recipe": "r"})
    assert read_training(tmp_path).recipe == "r"


def test_every_field_of_a_record_is_described_and_every_part_is_closed() -> None:
    for kind in ("run", "sample", "training"):
        schema = json_schema(kind)
        assert re.match(r"A (finished run|line|training)", schema["description"])
        for part in [schema, *schema.get("$defs", {}).values()]:
            assert all(field["description"] for field in part["properties"].values())
            # A recipe's own schema closes its settings.
            assert part["additionalProperties"] is (
                part["title"] in ("TrainedSettings", "LoraSettings", "OptimSettings")
            )
    for model in every(_part.Part):
        fields = {field.alias or name for name, field in model.model_fields.items()}
        assert described(model).keys() == fields, model


def every(model: type[_part.Part]) -> Iterator[type[_part.Part]]:
    for one in model.__subclasses__():
        yield one
        yield from every(one)
