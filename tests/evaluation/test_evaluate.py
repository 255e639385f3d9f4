"""Runs: what is written, what is resumed, what survives a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slmbench.console import watching
from slmbench.errors import SlmbenchError
from slmbench.evaluation import EvaluationOptions, TasksFailed, evaluate_tasks
from slmbench.evaluation import _evaluate as module
from slmbench.metrics import load_metric
from slmbench.task import load_task


def _outputs(run):
    return [(sample["item_id"], sample["output"], sample["loglikelihoods"]) for sample in run.samples()]


def test_every_number_is_recomputed_from_the_samples(nano, tmp_path):
    tasks = [load_task("nano_arithmetic"), load_task("nano_choice")]
    arithmetic, choice = evaluate_tasks(nano, tasks, EvaluationOptions(out=str(tmp_path), limit=12, batch=12))
    samples = arithmetic.samples()
    again = load_metric("exact_match/flexible").compute(
        predictions=[sample["output"] for sample in samples], references=[sample["target"] for sample in samples]
    )
    values = {metric["name"]: metric["value"] for metric in arithmetic.record["metrics"]}
    assert again["exact_match/flexible"] == pytest.approx(values["exact_match/flexible"], abs=1e-12)
    samples = choice.samples()
    again = load_metric("accuracy").compute(
        predictions=[sample["loglikelihoods"] for sample in samples], references=[sample["gold"] for sample in samples]
    )
    assert again["accuracy"] == pytest.approx(choice.record["metrics"][0]["value"], abs=1e-12)
    assert choice.record["metrics"][0]["chance"] == 0.25
    assert choice.record["limit"] == 12


def test_the_same_call_again_computes_nothing(nano, tmp_path, monkeypatch):
    (first,) = evaluate_tasks(nano, [load_task("nano_choice")], EvaluationOptions(out=str(tmp_path), limit=4))
    monkeypatch.setattr(module, "_run", lambda *args: pytest.fail("the run is there already"))
    (second,) = evaluate_tasks(nano, [load_task("nano_choice")], EvaluationOptions(out=str(tmp_path), limit=4))
    assert second.record == first.record


def test_another_seed_limit_or_format_is_another_run(nano, tmp_path):
    task = load_task("nano_choice")
    ids = {
        evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path), limit=2))[0].run_id,
        evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path), limit=3))[0].run_id,
        evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path), limit=2, seed=1))[0].run_id,
        evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path), limit=2, format="chat"))[0].run_id,
    }
    assert len(ids) == 4


def test_batch_composition_does_not_change_greedy_outputs(nano, tmp_path):
    task = load_task("nano_note")
    (one,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path / "a"), limit=6, batch=1))
    (many,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path / "b"), limit=6, batch=6))
    assert [sample["output"] for sample in one.samples()] == [sample["output"] for sample in many.samples()]


def test_interrupted_run_keeps_what_was_finished_and_goes_on(nano, tmp_path):
    tasks = [load_task("nano_arithmetic"), load_task("nano_choice")]
    expected = [
        _outputs(run)
        for run in evaluate_tasks(nano, tasks, EvaluationOptions(out=str(tmp_path / "whole"), limit=8, batch=2))
    ]
    done = 0

    def interrupt(what, n):
        nonlocal done
        done += n
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), watching(interrupt):
        evaluate_tasks(nano, tasks, EvaluationOptions(out=str(tmp_path / "cut"), limit=8, batch=2))
    records = [json.loads(path.read_text()) for path in (tmp_path / "cut").glob("runs/*/run.json")]
    assert {record["status"] for record in records} == {"started"}
    kept = sum(len(path.read_bytes().splitlines()) for path in (tmp_path / "cut").glob("runs/*/responses.jsonl"))
    assert kept == 9

    runs = evaluate_tasks(nano, tasks, EvaluationOptions(out=str(tmp_path / "cut"), limit=8, batch=2))
    for run, whole in zip(runs, expected, strict=True):
        for (item, output, lls), (other_item, other_output, other_lls) in zip(_outputs(run), whole, strict=True):
            assert (item, output) == (other_item, other_output)
            # What is missing is batched otherwise, which moves a float32 sum in its last digits.
            assert lls == (None if other_lls is None else pytest.approx(other_lls, abs=1e-4))
    assert sum(run.record["cost"]["n_resumed"] for run in runs) == 9
    assert not list((tmp_path / "cut").glob("runs/*/responses.jsonl"))


_KILLED = """
import sys
from slmbench.catalog import default_catalog
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.models import load_model, resolve_model
from slmbench.task import load_task
model = load_model(resolve_model("nano", default_catalog()))
evaluate_tasks(model, [load_task("nano_arithmetic")], EvaluationOptions(out=sys.argv[1], limit=30, batch=1))
"""


def test_killed_evaluation_computes_only_what_is_missing(nano, tmp_path):
    child = subprocess.Popen([sys.executable, "-c", _KILLED, str(tmp_path)], cwd=Path.cwd())
    journal = None
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and child.poll() is None:
        found = list(tmp_path.glob("runs/*/responses.jsonl"))
        if found and found[0].read_bytes().count(b"\n") >= 5:
            journal = found[0]
            break
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert journal is not None, "the child finished before it could be killed, or never wrote"
    kept = [json.loads(line) for line in journal.read_bytes().splitlines() if line.endswith(b"}")]
    assert len(kept) >= 5

    computed = 0

    def count(what, n):
        nonlocal computed
        computed += n

    with watching(count):
        (run,) = evaluate_tasks(
            nano, [load_task("nano_arithmetic")], EvaluationOptions(out=str(tmp_path), limit=30, batch=1)
        )
    assert (
        run.record["cost"]["n_resumed"] >= len(kept) - 1
    )  # The torn last line, if the kill left one, is computed anew.
    assert run.record["status"] == "ok"
    assert len(run.samples()) == 30
    (whole,) = evaluate_tasks(
        nano, [load_task("nano_arithmetic")], EvaluationOptions(out=str(tmp_path / "whole"), limit=30, batch=1)
    )
    assert _outputs(run) == _outputs(whole)


def test_two_processes_do_not_write_one_run(nano, tmp_path):
    refused = []

    def other_process(what, n):
        if refused:
            return
        (path,) = tmp_path.glob("runs/*/responses.jsonl")
        code = f"from slmbench.journal import Journal; Journal({str(path)!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode != 0
        assert "another process is writing this run" in done.stderr
        refused.append(what)

    with watching(other_process):
        evaluate_tasks(nano, [load_task("nano_choice")], EvaluationOptions(out=str(tmp_path), limit=2))
    assert len(refused) == 1


def test_changed_samples_are_refused(nano, tmp_path):
    (run,) = evaluate_tasks(nano, [load_task("nano_choice")], EvaluationOptions(out=str(tmp_path), limit=2))
    path = Path(run.folder) / "samples.jsonl"
    path.write_text(path.read_text().replace('"accuracy": 0.0', '"accuracy": 1.0') + "\n")
    with pytest.raises(SlmbenchError, match="was changed after the run"):
        run.samples()


def test_a_task_that_generates_more_than_the_context_is_refused_and_others_are_scored(nano, tmp_path):
    task = load_task("nano_note")
    longer = task.spec.generation.model_copy(update={"max_tokens": 2000})
    spec = task.spec.model_copy(update={"generation": longer})
    from attrs import evolve

    tasks, options = [evolve(task, spec=spec), load_task("nano_choice")], EvaluationOptions(out=str(tmp_path), limit=1)
    with pytest.raises(TasksFailed, match=r"generates up to 2000 tokens, but 'nano' has a context of 1024") as caught:
        evaluate_tasks(nano, tasks, options)
    assert [run.record["task"]["id"] for run in caught.value.runs] == ["nano_choice"]


def test_disk_full_leaves_the_journal_and_says_what_to_do(nano, tmp_path):
    code = """
import resource, sys, signal
from slmbench.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
sys.exit(main(["eval", "nano", "--tasks", "nano_arithmetic", "--limit", "40", "--batch", "4", "--out", sys.argv[1]]))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "can't be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("samples.jsonl"))
    (again,) = evaluate_tasks(
        nano, [load_task("nano_arithmetic")], EvaluationOptions(out=str(tmp_path), limit=40, batch=4)
    )
    assert again.record["cost"]["n_resumed"] > 0


def test_changed_samples_are_computed_anew(nano, tmp_path):
    (run,) = evaluate_tasks(nano, [load_task("nano_choice")], EvaluationOptions(out=str(tmp_path), limit=2))
    expected = _outputs(run)
    path = Path(run.folder) / "samples.jsonl"
    path.write_text("{}\n")
    (again,) = evaluate_tasks(nano, [load_task("nano_choice")], EvaluationOptions(out=str(tmp_path), limit=2))
    assert _outputs(again) == expected


def test_gold_from_code_that_the_plugin_imports_is_part_of_the_run(nano, tmp_path, monkeypatch):
    from slmbench.catalog import default_catalog

    folder = tmp_path / "tasks" / "hop"
    folder.mkdir(parents=True)
    (folder / "task.yaml").write_text(
        "summary: Gold from elsewhere.\nversion: 1\nlicense: mit\nkind: generate\n"
        "dataset: {files: {test: test.jsonl}}\n"
        'train_split: null\nprompt: {user: "{{ q }}"}\nanswer: "{{ gold }}"\nmetrics: [exact_match]\n'
        "generation: {max_tokens: 4}\n"
    )
    (folder / "test.jsonl").write_text('{"q": "x"}\n')
    (folder / "plugin.py").write_text("import os\n\n\ndef example(row):\n    return {'gold': os.environ['HOP_GOLD']}\n")
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    runs = []
    for gold in ("one", "two"):
        monkeypatch.setenv("HOP_GOLD", gold)
        runs += evaluate_tasks(
            nano, [load_task("hop", default_catalog())], EvaluationOptions(out=str(tmp_path / "out"))
        )
    assert [run.samples()[0]["references"] for run in runs] == [["one"], ["two"]]
    assert runs[0].record["comparability_key"] != runs[1].record["comparability_key"]


def test_model_that_computes_no_numbers_is_an_error(nano, tmp_path):
    import torch

    with torch.no_grad():
        nano.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(SlmbenchError, match=r"computes NaN or infinity"):
        evaluate_tasks(nano, [load_task("nano_choice")], EvaluationOptions(out=str(tmp_path), limit=2))
