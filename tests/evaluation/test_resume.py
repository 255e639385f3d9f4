"""Runs that were killed go on with what is missing, and end as if nothing had been; latency is of items alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from slmbench.catalog import default_catalog
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.evaluation._harness import generation_kwargs, render_all
from slmbench.formats import load_format
from slmbench.journal import Journal
from slmbench.task import load_task, load_task_folder
from tests.nearly import check_scores, values_of

CODE_YAML = """\
summary: Small functions, many samples.
version: 1
license: mit
dataset: {files: {test: test.jsonl}, columns: [prompt, solution, test]}
kind: code
train_split: null
prompt: {user: "{{ prompt }}", delimiter: ""}
answer: "{{ solution }}"
code: {program: "{{ prompt }}{{ completion }}", tests: "{{ test }}"}
generation: {max_tokens: 10, stop: ["e", "("], samples: 10, temperature: 1.2}
metrics: [pass@1]
"""
ROWS = [
    {"prompt": "def one(x):\n", "solution": "    return x + 1\n", "test": "assert one(1) == 2"},
    {"prompt": "def two(x):\n", "solution": "    return x + 2\n", "test": "assert two(1) == 3"},
]
TIMES = ("latency_ms", "compute_ms")


@pytest.fixture
def make_code_task(tmp_path: Path) -> Any:
    """make_code_task(name, rows=ROWS) -> a task of ten samples an item."""

    def make(name: str, rows: list[dict[str, str]] = ROWS) -> Any:
        folder = tmp_path / "tasks" / name
        folder.mkdir(parents=True)
        (folder / "task.yaml").write_text(CODE_YAML)
        (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return load_task_folder(str(folder), default_catalog())

    return make


@pytest.fixture
def code_task(make_code_task: Any) -> Any:
    return make_code_task("many_samples")


@pytest.fixture
def computed(monkeypatch):
    """How many pairs and rows reached the model, call by call."""
    from slmbench.engines.shared_prefix import _engine
    from slmbench.engines.shared_prefix._decoding import Decoder

    counts: list[int] = []
    score, write = _engine.score, Decoder.write

    def counted_score(core: Any, pairs: Any, *more: Any) -> Any:
        counts.append(len(pairs))
        return score(core, pairs, *more)

    def counted_write(self: Any, answers: Any) -> Any:
        counts.append(len(answers))
        return write(self, answers)

    monkeypatch.setattr(_engine, "score", counted_score)
    monkeypatch.setattr(Decoder, "write", counted_write)
    return counts


@pytest.fixture
def dies_after(monkeypatch):
    """dies_after(n): a run is interrupted instead of writing its answer number n + 1; None lets it live."""
    append = Journal.append

    def arm(n: int | None) -> None:
        written: list[str] = []

        def appended(self: Journal, key: str, record: dict[str, Any]) -> None:
            if n is not None and len(written) == n:
                raise KeyboardInterrupt
            written.append(key)
            append(self, key, record)

        monkeypatch.setattr(Journal, "append", appended)

    return arm


def kept(out: Path) -> list[dict[str, Any]]:
    """What journals have, in the order in which it was written."""
    paths = sorted(out.glob("runs/*/responses.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def same_samples(run: Any, whole: Any) -> None:
    def ordered(one: Any) -> list[dict[str, Any]]:
        return sorted(one.samples(), key=lambda row: (row["item_id"], row["epoch"]))

    for row, other in zip(ordered(run), ordered(whole), strict=True):
        assert row.keys() == other.keys()
        for key in row.keys() - {*TIMES, "loglikelihoods", "scores"}:
            assert row[key] == other[key], key
        # What is missing shares its passes with others, which moves a float32 sum in its last digits, and what is made
        # of it: bits per byte.
        assert row["loglikelihoods"] == (other["loglikelihoods"] and pytest.approx(other["loglikelihoods"], abs=1e-4))
        check_scores(row["scores"], other["scores"])


@pytest.mark.parametrize(("name", "limit", "requests"), [("nano_choice", 8, 32), ("nano_arithmetic", 12, 12)])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.99])
def test_a_killed_run_computes_only_what_is_missing(
    name, limit, requests, share, nano, tmp_path, computed, dies_after
) -> None:
    task, n = load_task(name), int(share * requests)
    (whole,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path / "whole"), limit=limit, batch=2))
    assert sum(computed) == requests
    dies_after(n)
    with pytest.raises(KeyboardInterrupt):
        evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path / "cut"), limit=limit, batch=2))
    assert len(kept(tmp_path / "cut")) == n
    dies_after(None)
    computed.clear()
    (run,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path / "cut"), limit=limit, batch=2))
    assert sum(computed) == requests - n
    assert run.record["cost"]["n_resumed"] == n
    same_samples(run, whole)
    check_scores(values_of(run), values_of(whole))


@pytest.mark.parametrize(("name", "kept_answers", "missing"), [("nano_choice", 5, 11), ("nano_arithmetic", 3, 3)])
def test_a_killed_run_of_lm_evals_own_engine_keeps_each_batch_that_was_computed(
    name, kept_answers, missing, nano, tmp_path, dies_after, monkeypatch
) -> None:
    from lm_eval.models.huggingface import HFLM

    rows: list[int] = []

    def counted(real: Any) -> Any:
        return lambda self, ids, *args, **options: rows.append(len(ids)) or real(self, ids, *args, **options)

    for method in ("_model_call", "_model_generate"):
        monkeypatch.setattr(HFLM, method, counted(getattr(HFLM, method)))
    limit = 4 if name == "nano_choice" else 6
    options = EvaluationOptions(out=str(tmp_path / "cut"), limit=limit, batch=2, engine="hf")
    (whole,) = evaluate_tasks(nano, [load_task(name)], evolve(options, out=str(tmp_path / "whole")))
    computed = sum(rows)
    rows.clear()
    dies_after(kept_answers)
    with pytest.raises(KeyboardInterrupt):
        evaluate_tasks(nano, [load_task(name)], options)
    assert len(kept(tmp_path / "cut")) == kept_answers
    assert sum(rows) <= kept_answers + 2  # No batch was begun before the answers of the one before were kept.
    dies_after(None)
    rows.clear()
    (run,) = evaluate_tasks(nano, [load_task(name)], options)
    assert sum(rows) == missing < computed
    same_samples(run, whole)


@pytest.mark.parametrize("n", [7, 13])
def test_samples_that_ended_out_of_order_are_each_their_own_repeats(
    n, code_task, nano, tmp_path, computed, dies_after, monkeypatch
) -> None:
    from slmbench.engines.shared_prefix import _room

    monkeypatch.setattr(_room, "DECODED_ROWS_CPU", 6)
    (whole,) = evaluate_tasks(nano, [code_task], EvaluationOptions(out=str(tmp_path / "whole"), batch=2))
    dies_after(n)
    with pytest.raises(KeyboardInterrupt):
        evaluate_tasks(nano, [code_task], EvaluationOptions(out=str(tmp_path / "cut"), batch=2))
    there = [entry["key"] for entry in kept(tmp_path / "cut")]
    epochs: dict[str, list[int]] = {}
    for key in there:
        digest, _, epoch = key.partition("#")
        epochs.setdefault(digest, []).append(int(epoch or 0))
    # Otherwise the test shows nothing.
    assert any(found != list(range(len(found))) for found in epochs.values())
    dies_after(None)
    computed.clear()
    (run,) = evaluate_tasks(nano, [code_task], EvaluationOptions(out=str(tmp_path / "cut"), batch=2))
    assert sum(computed) == 20 - n
    same_samples(run, whole)


def test_each_recorded_sample_is_the_text_of_its_repeat(code_task, nano, tmp_path) -> None:
    from lm_eval.api.instance import Instance

    from slmbench.evaluation.shared_prefix import SharedPrefixLM

    (run,) = evaluate_tasks(nano, [code_task], EvaluationOptions(out=str(tmp_path), batch=3, seed=5))
    style = load_format("plain")
    asked = render_all(code_task, code_task.examples("test"), style, nano.tokenizer)
    kwargs = generation_kwargs(code_task, style)
    requests = [
        Instance("generate_until", {}, (one.text, dict(kwargs)), 0, metadata=("t", item, 1))
        for item, one in enumerate(asked)
        for _ in range(10)
    ]
    texts = SharedPrefixLM(pretrained=nano.model, tokenizer=nano.tokenizer, batch_size=4, seed=5).generate_until(
        requests
    )
    rows = sorted(run.samples(), key=lambda row: (row["item_id"], row["epoch"]))
    assert [row["output"] for row in rows] == texts
    assert len(set(texts)) > 10
    assert len({row["tokens_out"] for row in rows}) > 2


def test_the_same_prompts_in_two_tasks_are_answered_and_journaled_for_each(make_code_task, nano, tmp_path) -> None:
    tasks = [make_code_task(name, ROWS[:1]) for name in ("first", "second")]
    alone = [evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path / "alone")))[0] for task in tasks]
    together = evaluate_tasks(nano, tasks, EvaluationOptions(out=str(tmp_path / "together")))
    for one, other in zip(together, alone, strict=True):
        same_samples(one, other)


def test_two_items_with_the_same_prompt_have_the_samples_that_were_judged(
    make_code_task, nano, tmp_path, monkeypatch
) -> None:
    from slmbench.evaluation import _evaluate

    judged: dict[str, list[str]] = {}
    judge_code = _evaluate.judge_code

    def listening(task: Any, examples: Any, *more: Any) -> Any:
        judge = judge_code(task, examples, *more)

        def run(outputs: Any, indices: Any) -> Any:
            judged.update({examples[index].id: list(texts) for index, texts in zip(indices, outputs, strict=True)})
            return judge(outputs, indices)

        return run

    monkeypatch.setattr(_evaluate, "judge_code", listening)
    task = make_code_task("twice", [ROWS[0], {**ROWS[0], "test": "assert one(2) == 3"}])
    (run,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path)))
    for item, texts in judged.items():
        assert [row["output"] for row in run.samples() if row["item_id"] == item] == texts


def test_latency_is_measured_only_where_items_are_alone(nano, tmp_path, computed) -> None:
    tasks = [load_task("nano_choice"), load_task("nano_arithmetic")]
    batched = evaluate_tasks(nano, tasks, EvaluationOptions(out=str(tmp_path / "a"), limit=4))
    computed.clear()
    alone = evaluate_tasks(nano, tasks, EvaluationOptions(out=str(tmp_path / "b"), limit=4, latency=True))
    for run, single in zip(batched, alone, strict=True):
        assert run.record["cost"]["latency_p50_ms"] is None and run.record["cost"]["latency_p90_ms"] is None
        assert 0 < single.record["cost"]["latency_p50_ms"] <= single.record["cost"]["latency_p90_ms"]
        assert single.run_id != run.run_id
        same_samples(single, run)
        assert all(row["latency_ms"] > 0 for row in single.samples())
    # One item a call, and of each kind the first one twice: it warms up.
    assert sorted(computed) == [1] * 5 + [4] * 5


def test_a_killed_latency_run_goes_on(nano, tmp_path, dies_after, computed) -> None:
    task = load_task("nano_arithmetic")
    (whole,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path / "a"), limit=6, latency=True))
    dies_after(4)
    with pytest.raises(KeyboardInterrupt):
        evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path / "b"), limit=6, latency=True))
    dies_after(None)
    (run,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path / "b"), limit=6, latency=True))
    assert run.record["cost"]["n_resumed"] == 4
    same_samples(run, whole)


def test_what_the_models_file_says_of_tokens_is_in_the_record(nano, tmp_path) -> None:
    nano.model.generation_config.repetition_penalty = 5.0
    task = load_task("nano_arithmetic")
    (ours,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path), limit=2))
    (theirs,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path), limit=2, engine="hf", batch=1))
    assert ours.record["generation_config"] == {"counts": False, "repetition_penalty": 5.0}
    assert theirs.record["generation_config"] == {"counts": False, "repetition_penalty": 5.0}
