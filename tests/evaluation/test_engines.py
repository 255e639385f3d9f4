"""The two engines of an evaluation: what a run's record says of them, and several adapters over one base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slmbench.cli import main
from slmbench.engines.options import EngineOptions
from slmbench.errors import DataError, UsageError
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.evaluation._journaled import build_engine
from slmbench.formats import load_format
from slmbench.leaderboard import build_leaderboard, load_runs
from slmbench.task import load_task
from tests.nearly import check_scores, values_of


def _answers(run):
    return [(sample["item_id"], sample["output"], sample["loglikelihoods"]) for sample in run.samples()]


def _runs(folder: Path):
    """(model or adapter, task) -> what its run answered."""
    found, _ = load_runs(folder)
    return {((run.record["adapter"] or run.record["model"])["name"], run.record["task"]["id"]): run for run in found}


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """Two adapters of nano that change what it says."""
    import peft
    import torch

    from slmbench.catalog import default_catalog
    from slmbench.models import load_model, resolve_model

    folders = []
    for number in range(2):
        torch.manual_seed(number)
        model = load_model(resolve_model("nano", default_catalog())).model
        config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
        folder = tmp_path_factory.mktemp("adapters") / f"adapter-{number}"
        peft.get_peft_model(model, config).save_pretrained(folder)
        folders.append(str(folder))
    return folders


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "share"}, "unknown engine 'share'; did you mean 'shared'"),
        ({"batch": 0}, "batch is 0"),
        ({"batch": "many"}, "batch is 'many'"),
        ({"name": "hf", "latency": True}, "latency: only the engines `shared`, `llamacpp`, `server` know it"),
        ({"name": "hf", "kv_budget_bytes": 1e9}, "kv_budget: only the engine `shared` knows it"),
        ({"kv_budget_bytes": -1.0}, "kv_budget is -1 bytes"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, said):
    with pytest.raises(UsageError, match=said):
        EngineOptions(**settings)


def test_both_engines_give_the_same_numbers_and_are_ranked_together(nano, tmp_path):
    tasks = [load_task("nano_choice"), load_task("nano_note")]
    ours = evaluate_tasks(nano, tasks, EvaluationOptions(out=str(tmp_path), limit=10))
    theirs = evaluate_tasks(nano, tasks, EvaluationOptions(out=str(tmp_path), limit=10, engine="hf", batch=4))
    for run, other in zip(ours, theirs, strict=True):
        assert (run.record["engine"], run.record["batch_size"]) == ("shared", "auto")
        assert (other.record["engine"], other.record["batch_size"]) == ("hf", 4)
        assert run.run_id != other.run_id
        assert run.record["comparability_key"] == other.record["comparability_key"]
        check_scores(values_of(run), values_of(other))
    for (_, text, values), (_, other_text, other_values) in zip(
        (pair for run in ours for pair in _answers(run)),
        (pair for run in theirs for pair in _answers(run)),
        strict=True,
    ):
        assert text == other_text
        assert values == (None if other_values is None else pytest.approx(other_values, abs=1e-4))


def test_cost_has_latency_only_where_items_were_alone(nano, tmp_path):
    task = load_task("nano_choice")
    (shared,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path), limit=6))
    (alone,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path), limit=6, latency=True))
    assert shared.record["cost"]["latency_p50_ms"] is None
    cost = alone.record["cost"]
    assert 0 < cost["latency_p50_ms"] <= cost["latency_p90_ms"]
    samples = alone.samples()
    assert sorted(sample["latency_ms"] for sample in samples)[0] <= cost["latency_p50_ms"]
    # An item's requests are computed together, and none beside them: what it waits is what it takes.
    assert sum(sample["compute_ms"] for sample in samples) <= sum(sample["latency_ms"] for sample in samples) * 1.001
    assert alone.record["latency"] == "single stream"
    assert alone.run_id != shared.run_id
    assert [values for *_, values in _answers(alone)] == [
        pytest.approx(values, abs=1e-4) for *_, values in _answers(shared)
    ]
    assert cost["tokens_per_s"] == pytest.approx((cost["tokens_in"] + cost["tokens_out"]) / cost["seconds"], rel=0.1)


def test_a_repetition_penalty_of_the_models_file_is_named_and_changes_nothing(nano, tmp_path):
    task = load_task("nano_note")
    (plain,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path / "plain"), limit=4))
    assert "generation_config" not in plain.record
    nano.model.generation_config.repetition_penalty = 4.0
    (ours,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path), limit=4))
    (theirs,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path), limit=4, engine="hf", batch=4))
    assert ours.record["generation_config"] == {"counts": False, "repetition_penalty": 4.0}
    assert theirs.record["generation_config"] == {"counts": False, "repetition_penalty": 4.0}
    assert _answers(ours) == _answers(plain)
    assert _answers(theirs) == _answers(plain)


def test_a_run_that_was_batched_plainly_says_so_and_how_often(tiny_t5, tmp_path):
    t5 = tiny_t5()
    choice, note = evaluate_tasks(
        t5, [load_task("nano_choice"), load_task("nano_note")], EvaluationOptions(out=str(tmp_path), limit=3)
    )
    assert choice.record["remarks"] == {}
    ((why, count),) = ((why, n) for why, n in note.record["remarks"].items() if why.startswith("plain batching"))
    assert "encoder-decoder" in why
    assert count == 3


@pytest.mark.parametrize("engine", ["shared", "hf"])
def test_a_choice_that_is_no_token_names_task_and_item(nano, engine):
    from lm_eval.api.instance import Instance

    made = build_engine(nano, load_format("plain"), EngineOptions(name=engine, batch=1))
    instances = [
        Instance("loglikelihood", {}, ("Question: which?", choice), 0, metadata=("colours", 7, 1))
        for choice in (" red", "")
    ]
    with pytest.raises(DataError, match=r"task 'colours', item 7: its continuation has no token of its own"):
        made.loglikelihood(instances)


def test_adapters_in_one_call_answer_as_in_calls_of_their_own(adapters, tmp_path, capsys, monkeypatch):
    from slmbench.workflow import held as workflow

    loads = []
    load = workflow.load_model
    monkeypatch.setattr(workflow, "load_model", lambda *args, **kwargs: loads.append(1) or load(*args, **kwargs))
    what = ["--tasks", "nano_choice,nano_note", "--limit", "5"]
    both = [part for folder in adapters for part in ("--adapter", folder)]
    assert main(["eval", "nano", *both, *what, "--out", str(tmp_path / "one")]) == 0
    assert len(loads) == 1
    for folder in adapters:
        assert main(["eval", "nano", "--adapter", folder, *what, "--out", str(tmp_path / "each")]) == 0
    capsys.readouterr()
    together, apart = _runs(tmp_path / "one"), _runs(tmp_path / "each")
    assert together.keys() == apart.keys()
    assert len(together) == 6
    for which, run in together.items():
        assert run.run_id == apart[which].run_id
        assert run.record["metrics"] == apart[which].record["metrics"]
        lines = (Path(run.folder) / "samples.jsonl", Path(apart[which].folder) / "samples.jsonl")
        texts = [[json.loads(line)["output"] for line in path.read_text().splitlines()] for path in lines]
        assert texts[0] == texts[1]
    outputs = {name: run.record["metrics"] for (name, task), run in together.items() if task == "nano_choice"}
    assert len(outputs) == 3


def test_options_of_the_engine_reach_it(tmp_path, capsys):
    what = ["eval", "nano", "--tasks", "nano_choice", "--limit", "4", "--json", "--out", str(tmp_path)]
    assert main([*what, "--batch", "2", "--kv-budget", "0", "--latency"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert (record["engine"], record["batch_size"], record["latency"]) == ("shared", 2, "single stream")
    assert main([*what, "--engine", "hf", "--latency"]) == 2
    assert "only the engines `shared`, `llamacpp`, `server` know it" in capsys.readouterr().err
    assert main([*what, "--batch", "few"]) == 2
    assert "few" in capsys.readouterr().err


def test_runs_of_both_engines_are_rows_of_one_table(nano, write_task, tmp_path):
    from slmbench.catalog import default_catalog
    from slmbench.task import load_task_folder

    sums = load_task_folder(str(write_task("sums")), default_catalog()).with_max_tokens(4)
    evaluate_tasks(nano, [sums], EvaluationOptions(out=str(tmp_path)))
    evaluate_tasks(nano, [sums], EvaluationOptions(out=str(tmp_path), engine="hf"))
    runs, notices = load_runs(tmp_path)
    assert len(runs) == 2
    board = build_leaderboard(runs, notices=notices)
    assert [row.name for row in board.rows] == ["nano"]
