"""Bundled recipes and suites: what they name exists, their settings are as published, twins keep their paths."""

from __future__ import annotations

import itertools
import re

import pytest

from slmbench.catalog import default_catalog
from slmbench.merge_recipe import load_merge_recipe
from slmbench.models import resolve_model
from slmbench.recipe import kind_of, load_recipe, suite_tasks
from slmbench.schema import LATENCY, OTHER
from slmbench.yamlfile import read_yaml


def of_kind(kind: str) -> list[str]:
    return [name for name, path in default_catalog().files("recipes").items() if kind_of(read_yaml(path)) == kind]


@pytest.mark.parametrize("name", of_kind("train"))
def test_every_bundled_recipe_names_tasks_and_a_model_that_exist(name: str) -> None:
    catalog = default_catalog()
    recipe = load_recipe(name, catalog)
    assert recipe.evaluation_tasks(catalog)
    assert resolve_model(recipe.spec.model, catalog).name == recipe.spec.model
    for adapter in recipe.spec.adapters:
        optim = recipe.optim_of(adapter)
        assert (optim.steps is None) != (optim.epochs is None)


@pytest.mark.parametrize("name", sorted(default_catalog().files("suites")))
def test_every_bundled_suite_names_tasks_that_exist(name: str) -> None:
    assert suite_tasks(default_catalog(), name)


@pytest.mark.parametrize("name", of_kind("train"))
def test_a_twin_is_short_and_keeps_every_path_of_its_recipe(name: str) -> None:
    recipe = load_recipe(name, default_catalog())
    real, twin = recipe.spec, recipe.for_twin().spec
    for adapter in twin.adapters:
        optim = recipe.for_twin().optim_of(adapter)
        assert optim.steps is not None and optim.steps <= 6
        assert optim.steps * optim.batch * optim.accumulate <= 200
    assert twin.rows is not None and twin.rows <= 24
    assert twin.evaluation.limit is not None and 1 <= twin.evaluation.limit <= 4
    assert twin.evaluation.max_tokens is not None and twin.evaluation.max_tokens <= 16
    assert all(len(values) <= 2 for values in twin.sweep.values())
    for kept in (
        "model",
        "method",
        "format",
        "lora",
        "quantization",
        "mixing",
        "packing",
        "dtype",
        "shots",
        "cot",
        "seed",
    ):
        assert getattr(twin, kept) == getattr(real, kept), kept
    for kept in ("lr", "accumulate", "schedule", "optimizer", "weight_decay", "clip_norm", "gradient_checkpointing"):
        assert getattr(twin.optim, kept) == getattr(real.optim, kept), kept
    assert (twin.validation is None) == (real.validation is None)
    assert {name: part.tasks for name, part in twin.adapters.items()} == {
        name: part.tasks for name, part in real.adapters.items()
    }
    assert (twin.evaluation.tasks, twin.evaluation.suite) == (real.evaluation.tasks, real.evaluation.suite)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (
            "tinyllama-discharge-toon",
            {
                "model": "tinyllama-1.1b-chat",
                "method": "qlora",
                "quantization.type": "nf4",
                "quantization.double": True,
                "lora.rank": 24,
                "optim.epochs": 3,
                "optim.lr": 2e-4,
                "max_tokens": 448,
                "format": "toon",
            },
        ),
        (
            "smollm2-deepthink",
            {
                "model": "smollm2-360m",
                "format": "chat",
                "max_tokens": 512,
                "optim.optimizer": "adamw_8bit",
                "optim.batch": 2,
                "optim.accumulate": 4,
                "optim.lr": 2e-4,
                "optim.steps": 60,
                "dtype": "auto",
            },
        ),
        (
            "phi35-multitask",
            {"model": "phi-3.5-mini-instruct", "cot": "zero", "optim.schedule": "plateau", "optim.clip_norm": 1.0},
        ),
        ("smollm2-gsm8k", {"model": "smollm2-135m-instruct", "format": "chat", "rows": 200, "evaluation.limit": 100}),
        (
            "smollm2-gsm8k-medquad",
            {"model": "smollm2-135m-instruct", "format": "chat", "rows": 400, "validation.rows": 48},
        ),
        ("flan-t5-medical", {"model": "flan-t5-small", "method": "lora"}),
        ("task-adapters", {"model": "llama-3.2-1b-instruct", "evaluation.suite": "adapters"}),
    ],
)
def test_a_published_recipe_has_its_published_settings(name: str, settings: dict[str, object]) -> None:
    spec = load_recipe(name, default_catalog()).spec.model_dump()
    for path, wanted in settings.items():
        value = spec
        for part in path.split("."):
            value = value[part]
        assert value == wanted, path


def test_published_recipes_train_on_their_published_tasks() -> None:
    catalog = default_catalog()

    def tasks(name: str, variant: str | None = None) -> list[list[str]]:
        return [part.tasks for part in load_recipe(name, catalog, variant=variant).spec.adapters.values()]

    assert tasks("phi35-multitask") == [["ropes", "web_search_summarization", "gsm8k"]]
    assert tasks("task-adapters") == [["alpaca_python"], ["gsm8k"], ["dolly_closed_qa"]]
    assert tasks("flan-t5-medical") == [["icliniq"], ["medquad"], ["icliniq", "medquad"]]
    discharge = load_recipe("tinyllama-discharge-toon", catalog)
    assert discharge.spec.optim.batch * discharge.spec.optim.accumulate == 8
    others = {name for name in discharge.spec.variants if name not in ("lora", "as-built")}
    assert {"discharge_summarization", *others} == set(suite_tasks(catalog, "healthcare-toon"))
    assert all(tasks("tinyllama-discharge-toon", name) == [[name]] for name in others)
    assert load_recipe("task-adapters", catalog).sweep_axes() == {"lora.rank": [16, 32, 64, 128]}
    for name in ("qwen2.5-1.5b", "llama-3.2-3b"):
        assert load_recipe("task-adapters", catalog, variant=name).spec.model == name
    for name in ("task-adapters", "flan-t5-medical"):
        assert load_recipe(name, catalog, variant="qlora").spec.method == "qlora"


@pytest.mark.parametrize("name", of_kind("merge"))
def test_a_merge_recipe_is_sound_and_its_twin_searches_little(name: str) -> None:
    catalog = default_catalog()
    recipe = load_merge_recipe(name, catalog)
    assert resolve_model(recipe.model, catalog).name == recipe.model
    twin = recipe.for_twin()
    assert twin.spec.merges.keys() == recipe.spec.merges.keys()
    assert all(len(twin.candidates(merge)) <= 4 for merge in twin.spec.merges)
    assert twin.evaluation.limit is not None and twin.evaluation.limit <= 4
    assert twin.train is not None and twin.train.spec.rows is not None and twin.train.spec.rows <= 24


def test_the_medical_merges_are_those_of_the_project() -> None:
    recipe = load_merge_recipe("flan-t5-medical-merge", default_catalog())
    assert recipe.model == "flan-t5-small" and recipe.adapters == ["icliniq", "medquad", "both"]
    assert recipe.spec.beside == ["both"]
    assert recipe.evaluation.tasks == ["icliniq", "medquad"]
    methods = {merge.method for merge in recipe.spec.merges.values()}
    assert {"soup", "linear", "slerp", "ties", "dare_linear", "task_arithmetic", "average_of_factors"} <= methods
    assert any(merge.greedy for merge in recipe.spec.merges.values())
    assert [merge.seeds for merge in recipe.spec.merges.values() if merge.seeds] == [[0, 1, 2]]
    assert len(recipe.candidates("task-arithmetic")) == 11


def test_published_numbers_of_bundled_recipes_say_which_commit_of_which_repository_they_are_of() -> None:
    catalog = default_catalog()
    found = {name: load_recipe(name, catalog).published for name in of_kind("train")}
    having = {name: numbers for name, numbers in found.items() if numbers}
    assert set(having) == {"flan-t5-medical", "phi35-multitask", "task-adapters", "tinyllama-discharge-toon"}
    for number in itertools.chain.from_iterable(having.values()):
        assert re.match(r"[A-Za-z0-9]+/[A-Za-z0-9-]+ at [0-9a-f]{7}, ", number.source), number
        assert number.counted


def test_every_bundled_number_that_could_be_compared_says_in_which_format_it_was_asked() -> None:
    catalog = default_catalog()
    numbers = [one for name in of_kind("train") for one in load_recipe(name, catalog).published]
    comparable = [one for one in numbers if one.metric not in (OTHER, LATENCY) and not one.fault]
    asked = {(one.task, one.under.format) for one in comparable}
    assert asked == {
        ("human_eval", "chat"),
        ("gsm8k", "plain"),
        ("hellaswag", "plain"),
        ("cnn_dailymail_sampled", "chat"),
    }


def test_adapters_of_bundled_numbers_are_those_that_their_recipe_trains_at_the_ranks_that_they_say() -> None:
    recipe = load_recipe("task-adapters", default_catalog())
    made = load_recipe("task-adapters", default_catalog(), variant="as-built").with_overrides(["lora.rank=64"])
    found = [one for one in recipe.published if one.adapter == "math" and one.under.rank == 64]
    assert found and all(one.making and made.digest_of("math") in one.making.digests for one in found)
    others = [one for one in recipe.published if one.adapter and one not in found]
    assert others and not any(one.making and made.digest_of("math") in one.making.digests for one in others)


def test_known_faults_of_published_numbers_are_marked_and_show_in_the_numbers_themselves() -> None:
    numbers = load_recipe("task-adapters", default_catalog()).published
    marked = {(one.key, one.model, one.written): one.marks for one in numbers if one.fault}
    first, second = "llama-3.2-1b-instruct", "Llama-3.2-3B-Instruct"
    assert "pass@10 of the report" in marked["human_eval/pass@1", first, "0.1124"][0]
    assert marked["human_eval/pass@1", first, "0.1124"][1].startswith("the same digits as human_eval/pass@10 of")
    borrowed = marked["gsm8k/exact_match/flexible", second, "64.56%"]
    assert "of the 1B" in borrowed[0] and borrowed[1].startswith(
        f"the same digits as gsm8k/exact_match/flexible of {first}"
    )
    printed = marked["cnn_dailymail_sampled/rouge1/stemmed", second, "0.5275"]
    assert printed[1].startswith(f"the same digits as hellaswag/accuracy of {first}")
    remarked = {one.key: one.marks for one in numbers if one.marks and not one.fault}
    # .0793 stands for the 3B and for a 1B with an adapter, and a ROUGE-L of .2616 is above its ROUGE-1 of .2536.
    assert set(remarked) == {f"cnn_dailymail_sampled/{kind}/stemmed" for kind in ("rouge2", "rougeL")}
    assert "(0.2536), which no outputs can give" in remarked["cnn_dailymail_sampled/rougeL/stemmed"][0]
    printed = load_recipe("tinyllama-discharge-toon", default_catalog()).published
    assert printed and all("prints" in one.fault or "no output was scored" in one.fault for one in printed)
