"""Models that are not quite what their name says: a base in four bits, a twin, an adapter with its way of training."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve

from slmbench.catalog import default_catalog
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.evaluation._harness import render_all
from slmbench.evaluation._journaled import build_engine
from slmbench.formats import load_format
from slmbench.leaderboard import build_leaderboard, load_runs
from slmbench.models import load_model, resolve_model
from slmbench.runs import READS, TRAINING, TrainingRecord, write_training
from slmbench.schema import QuantizationSpec
from slmbench.task import Task, load_task, load_task_folder


@pytest.fixture(scope="module")
def packed() -> Any:
    return load_model(resolve_model("nano", default_catalog()), quantization=QuantizationSpec())


def test_a_packed_base_scores_as_transformers_own_does(packed, tmp_path) -> None:
    import transformers
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    task, style = load_task("nano_choice"), load_format("plain")
    (run,) = evaluate_tasks(packed, [task], EvaluationOptions(out=str(tmp_path), limit=4, batch=4))
    own = transformers.AutoModelForCausalLM.from_pretrained(
        packed.source.location,
        dtype="float32",
        quantization_config=transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype="float32",
        ),
    )  # fmt: skip
    for module in own.modules():  # What bitsandbytes chooses on some CPUs: bfloat16, whatever dtype it is told.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    hflm = HFLM(pretrained=own, tokenizer=packed.tokenizer, batch_size=4, softmax_dtype="float32")
    requests = render_all(task, task.examples("test", 4), style, packed.tokenizer)
    sent = [(one.text, one.delimiter + choice) for one in requests for choice in one.continuations]
    instances = [Instance("loglikelihood", {}, args, i, metadata=("t", i, 1)) for i, args in enumerate(sent)]
    theirs = [value for value, _ in hflm.loglikelihood(instances, disable_tqdm=True)]
    assert [value for sample in run.samples() for value in sample["loglikelihoods"]] == pytest.approx(theirs, abs=1e-4)


@pytest.fixture
def sums(write_task) -> Task:
    """A task of two items: whole, so that its runs are ranked."""
    return load_task_folder(str(write_task("sums")), default_catalog()).with_max_tokens(4)


def test_a_packed_base_is_another_row_on_the_same_items(nano, packed, sums, tmp_path) -> None:
    whole = evaluate_tasks(nano, [sums], EvaluationOptions(out=str(tmp_path)))
    small = evaluate_tasks(packed, [sums], EvaluationOptions(out=str(tmp_path)))
    for run, other in zip(whole, small, strict=True):
        assert "quantization" not in run.record["model"]
        assert other.record["model"]["quantization"] == "nf4+double"
        assert other.record["model"]["parameters"] == run.record["model"]["parameters"]
        assert other.run_id != run.run_id
        assert other.record["comparability_key"] == run.record["comparability_key"]
    runs, notices = load_runs(tmp_path)
    board = build_leaderboard(runs, notices=notices)
    assert {row.name for row in board.rows} == {"nano", "nano (nf4+double)"}
    assert all(cell.rank_low for row in board.rows for cell in row.cells.values())
    assert all(notice.text.endswith("answers were cut at max_tokens") for notice in board.notices)


def test_a_packed_base_is_not_answered_from_a_whole_ones_journal(nano, packed, sums, tmp_path) -> None:
    # Even if the digests of its weights and config were those of the whole one.
    alike = evolve(packed, weights_sha256=nano.weights_sha256, config_sha256=nano.config_sha256)
    style, args = load_format("plain"), ("Question:", {"until": [], "max_gen_toks": 4})
    keys = {build_engine(model, style).key("generate_until", args, ("sums", 0))[0] for model in (nano, alike)}
    assert len(keys) == 2
    assert (
        len({evaluate_tasks(model, [sums], EvaluationOptions(out=str(tmp_path)))[0].run_id for model in (nano, alike)})
        == 2
    )


def test_a_twins_run_says_so_and_is_never_ranked(nano, sums, tmp_path) -> None:
    twin = evolve(nano, source=evolve(nano.source, name="nano-twin", twin=True))
    (real,) = evaluate_tasks(nano, [sums], EvaluationOptions(out=str(tmp_path)))
    (random,) = evaluate_tasks(twin, [sums], EvaluationOptions(out=str(tmp_path)))
    assert random.record["model"]["twin"] is True
    assert "twin" not in real.record["model"]
    rows = {row.name: row for row in build_leaderboard(load_runs(tmp_path)[0]).rows}
    assert rows["nano-twin"].badges == ("twin",)
    assert not rows["nano"].badges
    assert {cell.rank_low for cell in rows["nano-twin"].cells.values()} == {None}
    assert {cell.rank_low for cell in rows["nano"].cells.values()} == {1}


def test_a_model_made_from_a_twin_is_one_by_its_config(sums, tmp_path) -> None:
    nano = load_model(resolve_model("nano", default_catalog()))
    nano.model.config.slmbench_twin = True
    nano.model.save_pretrained(tmp_path / "made")
    nano.tokenizer.save_pretrained(tmp_path / "made")
    made = load_model(resolve_model(str(tmp_path / "made"), default_catalog()))
    (run,) = evaluate_tasks(made, [sums], EvaluationOptions(out=str(tmp_path)))
    assert run.record["model"]["twin"] is True


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"method": "lora", "lora": {"rank": 8}}, "lora"),
        ({"method": "qlora", "lora": {"rslora": False, "dora": False, "lr_ratio": None}}, "qlora"),
        ({"method": "lora", "lora": {"dora": True}}, "dora"),
        ({"method": "lora", "lora": {"rslora": True, "dora": True, "lr_ratio": 16}}, "rslora, dora, lora+"),
        ({"method": "qlora", "lora": {"rslora": True}}, "qlora, rslora"),
        ({"method": "full", "lora": {"dora": True}}, "full"),
        ({"lora": {"rank": 8}}, None),
        ({}, None),
    ],
)
def test_the_way_of_training_is_read_from_the_adapters_settings(settings, expected) -> None:
    assert TrainingRecord.model_validate({"settings": settings}).how() == expected


def test_settings_of_a_recipe_name_their_method() -> None:
    from slmbench.recipe import load_recipe

    spec = load_recipe("nano-quickstart", default_catalog()).spec
    assert TrainingRecord.model_validate({"settings": json.loads(spec.model_dump_json())}).how() == "lora"


def test_a_whole_model_says_what_it_was_trained_on_by_which_recipe_and_keeps_its_run_s_id(nano, sums, tmp_path) -> None:
    trained = {"recipe": "r", "recipe_sha256": "a" * 64, "setting_sha256": "b" * 64, "model": "nano"}
    (tmp_path / "whole").mkdir()
    write_training(tmp_path / "whole", {"schema": READS[TRAINING][-1], **trained})
    whole = evolve(nano, source=evolve(nano.source, location=str(tmp_path / "whole")))
    (told,) = evaluate_tasks(whole, [sums], EvaluationOptions(out=str(tmp_path / "told"), batch=2))
    (none,) = evaluate_tasks(nano, [sums], EvaluationOptions(out=str(tmp_path / "none"), batch=2))
    known = {"base": "nano", "recipe_sha256": "a" * 64, "setting_sha256": "b" * 64}
    assert told.record["model"] == {**none.record["model"], **known} and told.record["run_id"] == none.record["run_id"]
