"""A generate task that draws several texts an item: each is scored, and the item has their mean wherever it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

import slmbench
from slmbench.catalog import default_catalog
from slmbench.errors import UsageError
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.evaluation._identity import prepare
from slmbench.formats import load_format
from slmbench.leaderboard import pool_of
from slmbench.metrics.rouge import rouge_stemmed
from slmbench.runs import read_item_scores, verify
from slmbench.task import Task, load_task, load_task_folder

SAMPLES = 5


def sampled() -> Task:
    """A task of which the embedded model knows something, drawn as cnn_dailymail_sampled is."""
    task, other = load_task("nano_arithmetic", data="samples"), load_task("cnn_dailymail_sampled", data="samples")
    drawn = other.spec.generation.model_copy(update={"max_tokens": 24, "stop": task.spec.generation.stop})
    spec = task.spec.model_copy(update={"generation": drawn})
    return evolve(task, spec=spec, scorers=other.scorers).with_cot("off" if spec.cot else None)


@pytest.fixture(scope="module")
def nano_shared() -> Any:
    from slmbench.models import load_model, resolve_model

    return load_model(resolve_model("nano", default_catalog()))


@pytest.fixture(scope="module")
def run(nano_shared: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    task = sampled()
    options = EvaluationOptions(out=str(tmp_path_factory.mktemp("several")), batch=8, limit=2)
    (made,) = evaluate_tasks(nano_shared, [task], options)
    return made


def test_every_text_is_there_with_its_own_scores_and_those_of_its_item(run: Any) -> None:
    rows = run.samples()
    assert [(row["item_id"], row["epoch"]) for row in rows] == [
        (f"test-{i}", n) for i in (0, 1) for n in range(SAMPLES)
    ]
    assert len({row["output"] for row in rows}) > 5
    for item in ("test-0", "test-1"):
        own = [row for row in rows if row["item_id"] == item]
        for row in own:
            assert row["sample_scores"] == rouge_stemmed(row["output"], row["references"])
        for name, value in own[0]["scores"].items():
            assert value == pytest.approx(sum(row["sample_scores"][name] for row in own) / SAMPLES, abs=1e-12)
        assert all(row["scores"] == own[0]["scores"] for row in own)
    assert any(row["sample_scores"] != row["scores"] for row in rows)


def test_a_models_file_has_no_say_in_what_the_task_sets_itself(nano: Any, tmp_path: Path) -> None:
    def told(**file: float) -> tuple[Any, list[str]]:
        for name, value in file.items():
            setattr(nano.model.generation_config, name, value)
        made = prepare(nano, sampled(), load_format("plain"), EvaluationOptions(out=str(tmp_path), limit=1), None)
        return made.record["generation_config"], [one for one in made.remarks if "generation_config" in one]

    assert told(temperature=0.6, top_p=0.9) == ({"counts": False, "temperature": 0.6, "top_p": 0.9}, [])
    said = "the model's generation_config.json has a say in the texts that are drawn (top_k)"
    assert told(top_k=20) == ({"counts": True, "top_k": 20}, [said])


def test_the_record_has_the_mean_over_items_and_verifies(run: Any) -> None:
    record = run.record
    assert record["generation"]["samples"] == SAMPLES
    assert (record["generation"]["temperature"], record["generation"]["top_p"]) == (1.5, 0.9)
    items = {row["item_id"]: row["scores"] for row in run.samples()}
    for metric in record["metrics"]:
        assert metric["n"] == 2
        assert metric["value"] == pytest.approx(sum(one[metric["name"]] for one in items.values()) / 2, abs=1e-12)
    verify(run.folder, record, pool_of)
    scores = read_item_scores(run.folder, record)
    assert scores is not None and len(scores) == 2 and scores.n_samples == 2 * SAMPLES


def test_scoring_again_gives_the_same_scores_of_texts_and_items(run: Any, tmp_path: Path) -> None:
    (again,) = slmbench.score([run.folder], metrics=["rouge/stemmed", "rouge"], out=str(tmp_path))
    for new, old in zip(again.samples(), run.samples(), strict=True):
        for key in ("scores", "sample_scores"):
            assert {name: new[key][name] for name in old[key]} == old[key]
        assert "rougeL" in new["sample_scores"]
    verify(again.folder, again.record, pool_of)


def test_a_run_that_is_there_is_found_and_fewer_samples_are_another_run(nano_shared: Any, run: Any) -> None:
    task = sampled()
    options = EvaluationOptions(out=str(Path(run.folder).parent.parent), batch=8, limit=2)
    (same,) = evaluate_tasks(nano_shared, [task], options)
    assert same.run_id == run.run_id
    (greedy,) = evaluate_tasks(nano_shared, [task.with_samples(1)], options)
    assert greedy.run_id != run.run_id
    assert greedy.record["comparability_key"] != run.record["comparability_key"]
    assert [row["epoch"] for row in greedy.samples()] == [0, 0]
    assert all("sample_scores" not in row for row in greedy.samples())
    assert not greedy.record["generation"]["do_sample"]
    assert "samples" not in greedy.record["generation"]


def test_the_page_shows_each_text_with_its_own_scores(run: Any, tmp_path: Path) -> None:
    from slmbench.leaderboard._page_items import _written

    first = run.samples()[0]
    said = dict(map(tuple, _written(first)[1]))
    assert said["this sample alone"].startswith(f"rouge1/stemmed {first['sample_scores']['rouge1/stemmed']:.3f}, ")


POOLED = """\
summary: s.
version: 1
dataset: {files: {test: test.jsonl}, columns: [q, a]}
kind: generate
train_split: null
prompt: {user: "{{ q }}"}
answer: "{{ a }}"
generation: {samples: 2, temperature: 1}
metrics: [METRICS]
"""


def test_what_is_pooled_over_items_has_no_several_answers(tmp_path: Path) -> None:
    folder = tmp_path / "tasks" / "pooled"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text(json.dumps({"q": "?", "a": "4019"}) + "\n")
    (folder / "task.yaml").write_text(POOLED.replace("METRICS", "codes_f1"))
    with pytest.raises(slmbench.SlmbenchError, match="metric 'codes_f1' is pooled over items, each with one answer"):
        load_task_folder(str(folder), default_catalog())
    (folder / "task.yaml").write_text(POOLED.replace("METRICS", "codes_f1, rouge").replace("samples: 2, ", ""))
    task = load_task_folder(str(folder), default_catalog())
    assert [scorer.name for scorer in task.with_samples(3).scorers] == ["rouge"]
    (folder / "task.yaml").write_text(POOLED.replace("METRICS", "codes_f1").replace("samples: 2, ", ""))
    with pytest.raises(UsageError, match="no metric can be computed from 3 samples"):
        load_task_folder(str(folder), default_catalog()).with_samples(3)


PROGRAMS = """\
summary: s.
version: 1
dataset: {files: {test: test.jsonl}, columns: [q, a]}
kind: code
train_split: null
prompt: {user: "{{ q }}", delimiter: ""}
answer: "{{ a }}"
code: {program: "text = ascii({{ completion | json }})", tests: "assert len(text) % 2"}
generation: {max_tokens: 8, samples: 10, temperature: 1.2}
metrics: [pass@1, pass@10]
"""


def test_pass_at_1_and_at_10_come_of_the_same_ten_samples(nano_shared: Any, tmp_path: Path) -> None:
    folder = tmp_path / "tasks" / "programs"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text("".join(json.dumps({"q": q, "a": "a"}) + "\n" for q in ("One:", "Two:")))
    (folder / "task.yaml").write_text(PROGRAMS)
    task = load_task_folder(str(folder), default_catalog())
    options = EvaluationOptions(out=str(tmp_path), batch=20, allow_unsafe_code=True)
    (run,) = evaluate_tasks(nano_shared, [task], options)
    rows = run.samples()
    assert len(rows) == 20 and run.record["generation"]["samples"] == 10
    passed = {item: [r["verdict"] == "passed" for r in rows if r["item_id"] == item] for item in ("test-0", "test-1")}
    assert 0 < sum(map(sum, passed.values())) < 20
    values = {metric["name"]: metric["value"] for metric in run.record["metrics"]}
    assert values["pass@1"] == pytest.approx(sum(sum(one) / 10 for one in passed.values()) / 2)
    assert values["pass@10"] == sum(any(one) for one in passed.values()) / 2 > values["pass@1"]
