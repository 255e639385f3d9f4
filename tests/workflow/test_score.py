"""Saved answers scored again: the same numbers if nothing changed, other metrics from the same outputs, no model."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import slmbench
from slmbench.catalog import Catalog, default_catalog
from slmbench.cli import main
from slmbench.errors import FileError, UsageError
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.leaderboard import audit, build_leaderboard, read_runs
from slmbench.models import load_model, resolve_model
from slmbench.runs import OpenRun, Run, RunRecord, SampleRecord, read_record
from slmbench.seal import sealed
from slmbench.task import load_task

CODE_YAML = """\
summary: Small functions.
version: 1
license: mit
dataset: {files: {test: test.jsonl}, columns: [prompt, solution, test]}
kind: code
train_split: null
prompt: {user: "{{ prompt }}", delimiter: ""}
answer: "{{ solution }}"
code: {program: "{{ prompt }}{{ completion }}", tests: "{{ test }}"}
generation: {max_tokens: 4, stop: ["\\ndef"], samples: 2, temperature: 0.9}
metrics: [pass@1, pass@2]
"""
ROWS = [
    {"prompt": "def one(x):\n", "solution": "    return x + 1\n", "test": "assert one(1) == 2"},
    {"prompt": "def three(s):\n", "solution": "    return s[::-1]\n", "test": "assert three('ab') == 'ba'"},
]
COPIED = ("cost", "hardware", "dataset", "prompts_sha256", "generation", "model", "adapter", "seed", "limit", "engine")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """The bundled tasks, and a code task with two samples an item."""
    root = tmp_path_factory.mktemp("user")
    folder = root / "tasks" / "small_code"
    folder.mkdir(parents=True)
    (folder / "task.yaml").write_text(CODE_YAML)
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return Catalog([*default_catalog().roots, str(root)])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> Path:
    """Real runs of nano: choices, texts, pooled classes, programs, and choices in the object format."""
    out = tmp_path_factory.mktemp("made")
    nano = load_model(resolve_model("nano", default_catalog()))
    tasks = [load_task(name) for name in ("nano_choice", "nano_note")]
    tasks += [load_task("pubmed_qa", data="samples"), load_task("small_code", catalog)]
    evaluate_tasks(nano, tasks, EvaluationOptions(out=str(out), limit=3))
    toon = load_task("nano_choice").with_metrics(["accuracy"])
    evaluate_tasks(nano, [toon], EvaluationOptions(out=str(out), limit=3, format="toon"))
    return out


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


def _run(out: Path, task: str, format: str = "plain") -> Run:
    records = [(str(folder), read_record(folder)) for folder in sorted((out / "runs").iterdir())]
    return next(
        Run(folder, record)
        for folder, record in records
        if record["task"]["id"] == task and record["format"] == format and "rescored_of" not in record
    )


def _outputs(run: Run) -> list[tuple[Any, ...]]:
    return [(row["item_id"], row["epoch"], row["output"], row["loglikelihoods"]) for row in run.samples()]


def test_the_same_metrics_give_the_same_numbers(out: Path, catalog: Catalog) -> None:
    before = {name: _run(out, name) for name in ("nano_choice", "nano_note", "pubmed_qa", "small_code")}
    for name, old in before.items():
        (new,) = slmbench.score(old, catalog=catalog)
        assert new.record["metrics"] == old.record["metrics"]
        assert _outputs(new) == _outputs(old)
        assert [row["scores"] for row in new.samples()] == [row["scores"] for row in old.samples()]
        assert {key: new.record[key] for key in COPIED} == {key: old.record[key] for key in COPIED}
        assert new.record["comparability_key"] == old.record["comparability_key"]
        assert new.record["remarks"] == old.record["remarks"]
        source = new.record["rescored_of"]
        assert (source["run_id"], source["samples_sha256"]) == (old.run_id, old.record["samples_sha256"])
        assert source.get("verdicts") == ("run" if name == "small_code" else None)
        assert new.run_id != old.run_id
        assert slmbench.score(old, catalog=catalog)[0].record == new.record  # It is there already.
    found = read_runs(out, catalog)
    assert found.problems == ()
    assert len(found.runs) == 9


def test_other_metrics_are_made_of_the_same_outputs(out: Path) -> None:
    old = _run(out, "nano_choice")
    (new,) = slmbench.score(old, metrics="bits_per_byte,accuracy_bytes")
    bits = [
        -row["loglikelihoods"][row["gold"]] / math.log(2) / len(row["choices"][row["gold"]].encode())
        for row in old.samples()
    ]
    assert [metric["name"] for metric in new.record["metrics"]] == ["bits_per_byte", "accuracy_bytes"]
    assert new.record["metrics"][0]["value"] == pytest.approx(sum(bits) / len(bits), rel=1e-12)
    assert new.record["metrics"][0]["chance"] is None
    (rouge,) = slmbench.score(_run(out, "nano_note"), metrics=["rouge/stemmed"], out=str(out / "elsewhere"))
    assert Path(rouge.folder).parent == out / "elsewhere" / "runs"
    assert {metric["scorer"] for metric in rouge.record["metrics"]} == {"rouge/stemmed"}


def test_an_object_is_scored_as_it_was_written(out: Path) -> None:
    every = load_task("nano_choice")
    nano = load_model(resolve_model("nano", default_catalog()))
    evaluated = evaluate_tasks(nano, [every], EvaluationOptions(out=str(out / "fresh"), limit=3, format="toon"))[0]
    (scored,) = slmbench.score(_run(out, "nano_choice", "toon"))
    assert scored.record["metrics"] == evaluated.record["metrics"]
    assert scored.record["comparability_key"] == evaluated.record["comparability_key"]


def _with_outputs(run: Run, change: Callable[[dict[str, Any]], None]) -> Run:
    """The run, its samples changed and its digests made anew: as if its model had written this."""
    rows = run.samples()
    for row in rows:
        change(row)
    record = {key: value for key, value in run.record.items() if key not in ("metrics", "record_sha256")}
    again = OpenRun(run.folder, record)
    return again.finish([SampleRecord(**row) for row in rows], {"metrics": run.record["metrics"]})


def test_programs_are_run_again_unless_their_verdicts_are_kept(out: Path, catalog: Catalog) -> None:
    solutions = {f"test-{number}": row["solution"] for number, row in enumerate(ROWS)}
    run = _with_outputs(
        _run(out, "small_code"), lambda row: row.update(output=solutions[row["item_id"]] if row["epoch"] else "    x")
    )
    assert {row["verdict"] for row in run.samples()} == {"failed"}
    (again,) = slmbench.score(run, catalog=catalog)
    assert {metric["name"]: metric["value"] for metric in again.record["metrics"]} == {"pass@1": 0.5, "pass@2": 1.0}
    assert [row["verdict"] for row in again.samples()] == ["failed", "passed"] * 2
    (kept,) = slmbench.score(run, keep_verdicts=True, catalog=catalog)
    assert kept.record["metrics"][0]["value"] == 0.0
    assert kept.record["rescored_of"]["verdicts"] == "kept"


def test_rows_that_changed_are_not_judged_by(out: Path, catalog: Catalog, tmp_path: Path) -> None:
    root = tmp_path / "user"
    source = next(Path(one) for one in catalog.roots if (Path(one) / "tasks" / "small_code").is_dir())
    shutil.copytree(source / "tasks" / "small_code", root / "tasks" / "small_code")
    rows = [{**row, "prompt": row["prompt"].replace("(", " (")} for row in ROWS]
    (root / "tasks" / "small_code" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changed = Catalog([*default_catalog().roots, str(root)])
    with pytest.raises(slmbench.SlmbenchError, match=r"not those that were answered \(what the task makes of its rows"):
        slmbench.score(_run(out, "small_code"), catalog=changed)
    assert slmbench.score(_run(out, "small_code"), keep_verdicts=True, catalog=changed)


def test_metrics_that_can_not_score_the_answers_are_refused(out: Path) -> None:
    with pytest.raises(UsageError, match="metric 'rouge' scores text outputs, and these are choice outputs"):
        slmbench.score(_run(out, "nano_choice"), metrics="rouge")
    with pytest.raises(UsageError, match="did you mean 'accuracy'"):
        slmbench.score(_run(out, "nano_choice"), metrics="acuracy")
    with pytest.raises(UsageError, match=r"'acuracy'; did.*\n.*'ruge'; did you mean.*\n.*'rouge' scores text"):
        slmbench.score(_run(out, "nano_choice"), metrics="acuracy,ruge,rouge")
    with pytest.raises(UsageError, match=r"needs 5 samples an item; there are 2"):
        slmbench.score(_run(out, "small_code"), metrics="pass@5", keep_verdicts=True)
    assert not [one for one in (out / "runs").iterdir() if "rescored_of" in read_record(one)]


def test_one_edited_run_keeps_none_of_the_others_from_it(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = Path(_run(out, "nano_note").folder)
    (bad / "samples.jsonl").write_bytes((bad / "samples.jsonl").read_bytes().replace(b"Note", b"Nota", 1))
    paths = [_run(out, name).folder for name in ("nano_note", "nano_choice", "pubmed_qa")]
    assert main(["score", *paths, "--json"]) == 1
    told = capsys.readouterr()
    assert [record["task"]["id"] for record in json.loads(told.out)] == ["nano_choice", "pubmed_qa"]
    assert "samples.jsonl: sha256 is" in told.err
    with pytest.raises(FileError):
        slmbench.score(str(bad))


def test_the_table_of_before_and_after(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", _run(out, "nano_choice", "toon").folder]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("nano on nano_choice: ")
    assert [line.split()[0] for line in lines[1:]] == ["accuracy", "accuracy_norm", "bits_per_byte"]
    assert lines[1].endswith("as before")
    assert lines[3].endswith("new")


def test_a_run_that_is_no_task_of_ours_is_scored_by_named_metrics(out: Path) -> None:
    run = _run(out, "nano_note")
    record = sealed({**run.record, "task": {"id": "elsewhere", "version": 3}})
    (Path(run.folder) / "run.json").write_text(json.dumps(record))
    (new,) = slmbench.score(run.folder, metrics="exact_match")
    old = {metric["name"]: metric["value"] for metric in run.record["metrics"]}
    assert new.record["metrics"][0]["value"] == old["exact_match"]
    with pytest.raises(UsageError, match="unknown task 'elsewhere'"):
        slmbench.score(run.folder)


def test_no_model_is_loaded(out: Path) -> None:
    code = (
        "import sys; from slmbench.cli import main; "
        "rc = main(sys.argv[1:]); print(rc, sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    folder = _run(out, "nano_choice").folder
    done = subprocess.run([sys.executable, "-c", code, "score", folder], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_the_leaderboard_shows_what_was_scored_again(out: Path) -> None:
    slmbench.score(_run(out, "nano_choice", "toon"), out=str(out / "again"))
    board = build_leaderboard(list(read_runs(out / "again").runs))
    assert [column.metric for column in board.columns] == ["accuracy", "accuracy_norm", "bits_per_byte"]


def _leaves(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict) and value:
        return [leaf for key, part in value.items() for leaf in _leaves(part, (*at, key))]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [leaf for place, part in enumerate(value) for leaf in _leaves(part, (*at, place))]
    return [at]


def _other(value: Any) -> list[Any]:
    """Values that somebody may put in place of one."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value * 0.5 + 0.01]
    if isinstance(value, str):
        return ["2001-01-01T00:00:00Z"] if value.startswith("20") and "T" in value else ["f" * 64, "plain", "none"]
    return [1, 0.25, "other", {}, {"other": 1}, [0.0, 2.0]]


def _edited(record: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = json.loads(json.dumps(record))
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return sealed({key: part for key, part in changed.items() if key != "record_sha256"})


def _dotted(path: tuple[Any, ...]) -> str:
    return ".".join(str(key) for key in path if not isinstance(key, int))


def _unseen() -> list[str]:
    """The fields that docs/runs.md says that nothing else determines."""
    text = (Path(__file__).parents[2] / "docs" / "runs.md").read_text()
    part = text.split("nothing else in\nthe folder determines:")[1].split("\n\n")[0]
    return re.findall("`([^`]+)`", part)


def test_a_run_that_was_scored_again_is_held_to_the_run_whose_answers_it_has(
    out: Path, catalog: Catalog, tmp_path: Path
) -> None:
    old = _run(out, "nano_choice")
    (new,) = slmbench.score(old, catalog=catalog, out=str(tmp_path / "scored"))
    folder, path = Path(new.folder), Path(old.folder) / "run.json"
    beside = {old.run_id: Path(old.folder)}
    alone, followed = audit(folder, catalog), audit(folder, catalog, beside)
    assert alone.ok and [note.split(", ")[1:] for note in alone.notes] == [
        ["whose answers it has", "is not there: nothing could be held to it"]
    ]
    assert (followed.problems, followed.notes) == ((), ())
    path.write_text(json.dumps(_edited(old.record, ("cost", "ram_peak_B"), 1)))
    told = [one.message for one in audit(folder, catalog, beside).problems]
    assert "rescored_of.record_sha256" in told[0] and "it was changed since" in told[0] and "field cost is" in told[1]
    lines = [json.loads(line) for line in (path.parent / "samples.jsonl").read_text().splitlines()]
    lines[1]["output"] = "another"
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    (path.parent / "samples.jsonl").write_bytes(data)
    path.write_text(json.dumps(_edited(old.record, ("samples_sha256",), hashlib.sha256(data).hexdigest())))
    told = [one.message for one in audit(folder, catalog, beside).problems]
    assert f"item {lines[1]['item_id']!r} has another output" in told[0] and len(told) == 1


def _is_sound(record: dict[str, Any]) -> bool:
    try:
        RunRecord.model_validate(record)
    except ValueError:
        return False
    return True


def test_any_field_that_is_edited_and_sealed_again_is_told_or_is_documented_as_not_determined(
    out: Path, catalog: Catalog
) -> None:
    run, free = _run(out, "nano_choice"), _unseen()
    folder, record = Path(run.folder), run.record
    sound = audit(folder, catalog)
    assert (sound.problems, sound.notes) == ((), ())
    unseen, tried = [], []
    for path in _leaves(record):
        value: Any = record
        for key in path:
            value = value[key]
        edits = (_edited(record, path, other) for other in _other(value) if other != value)
        edited = next(filter(_is_sound, edits), None)
        if edited is None or (name := _dotted(path)) in ("status", "record_sha256"):
            continue
        tried.append(name)
        (folder / "run.json").write_text(json.dumps(edited))
        found = audit(folder, catalog)
        if not found.problems and found.notes == sound.notes:
            unseen.append(name)
    of = [next((one for one in free if name == one or name.startswith(f"{one}.")), None) for name in unseen]
    assert None not in of, unseen
    # What is null, as a commit where the package is a wheel, has no other value that would do.
    there = {one for one in free if any(name == one or name.startswith(f"{one}.") for name in tried)}
    assert there - {*of, "adapter", "ended"} == set()  # One before `created` is told.
