"""The variants `as-built`: held to what the files of five public projects say, and run whole on their models' twins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.recipe import Recipe, load_recipe

ALL_SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ATTENTION, MLP = ALL_SEVEN[:4], ALL_SEVEN[4:]
UNSLOTH = {
    "optim.batch": 2,
    "optim.accumulate": 4,
    "optim.lr": 2e-4,
    "optim.schedule": "linear",
    "optim.warmup_steps": 5,
    "optim.optimizer": "adamw_8bit",
    "optim.weight_decay": 0.01,
    "optim.clip_norm": 1.0,
    "lora.alpha": 16.0,
    "lora.dropout": 0.0,
    "seed": 3407,
    "packing": False,
}
# adapter -> (its tasks, settings by dotted path), as the notebooks have them.
BUILT: dict[str, dict[str, tuple[list[str], dict[str, Any]]]] = {
    # Aashi779/Efficient-multitasking-with-SLMs at d89ffe4.
    "phi35-multitask": {
        adapter: (
            [task],
            {
                **UNSLOTH,
                "model": "phi-3.5-mini-instruct",
                "method": "qlora",
                "loss": "all",
                "rows.n": 3000,
                "rows.seed": 42,
                "optim.steps": 60,
                "lora.rank": 16,
                "max_tokens": 2048,
            },
        )
        for adapter, task in (("reasoning", "ropes_rationale"), ("arithmetic", "gsm8k"))
    },
    # Bharati2301/Optimized-Small-Language-Models-with-LoRA-Adapters at 4f139a3.
    "task-adapters": {
        adapter: (
            [task],
            {
                **UNSLOTH,
                "model": "llama-3.2-1b-instruct",
                "format": "chat",
                "loss": "answer",
                "lora.rank": 32,
                "max_tokens": 5096,
                "optim.epochs": 1,
                **own,
            },
        )
        for adapter, task, own in (
            ("code", "python_instruction", {"optim.lr": 2e-5, "lora.targets": ALL_SEVEN}),
            ("math", "hendrycks_math", {"lora.targets": ALL_SEVEN}),
            ("text", "cnn_dolly_summarization", {"lora.targets": ALL_SEVEN}),
            ("text-attention", "cnn_dolly_summarization", {"lora.targets": ATTENTION}),
            ("text-mlp", "cnn_dolly_summarization", {"lora.targets": MLP}),
        )
    },
    # jash6/ModelMerging at 1c9ddb9.
    "flan-t5-medical": {
        adapter: (
            [task],
            {
                "model": "flan-t5-small",
                "method": "qlora",
                "quantization.type": "int8",
                "format": "plain",
                "lora.rank": 4,
                "lora.alpha": 32.0,
                "lora.dropout": 0.01,
                "lora.targets": ["q", "k", "v", "o"],
                "optim.lr": 1e-3,
                "optim.batch": 32,
                "optim.schedule": "linear",
                "optim.warmup_steps": 0,
                "max_tokens": 512,
                # Two epochs of four fifths of 16,412 and of 14,001 rows, in steps of 32.
                "optim.steps": 2 * -(-(rows * 4 // 5) // 32),
            },
        )
        for adapter, task, rows in (("medquad", "medquad_question", 16_412), ("icliniq", "icliniq_question", 14_001))
    },
    # VedantJadhav701/SLM at e284673: 35,000 rows, of which 5% are held out.
    "tinyllama-discharge-toon": {
        "discharge_summarization": (
            ["discharge_question"],
            {
                "model": "tinyllama-1.1b-chat",
                "method": "qlora",
                "quantization.type": "nf4",
                "quantization.double": True,
                "format": "instruction",
                "loss": "all",
                "lora.rank": 24,
                "lora.alpha": 48.0,
                "lora.dropout": 0.1,
                "lora.targets": ATTENTION,
                "optim.batch": 4,
                "optim.accumulate": 2,
                "optim.epochs": 3,
                "optim.lr": 2e-4,
                "optim.schedule": "cosine",
                "optim.warmup_steps": round(0.03 * 3 * 33_250 / 8),
                "optim.optimizer": "paged_adamw_8bit",
                "optim.weight_decay": 0.01,
                "optim.clip_norm": 1.0,
                "max_tokens": 448,
                "rows.n": 35_000 * 95 // 100,
                "rows.seed": 42,
                "validation.rows": 35_000 * 5 // 100,
            },
        )
    },
    # A README alone.
    "smollm2-deepthink": {
        "deepthink": (
            ["deepthink_reasoning"],
            {
                "model": "smollm2-360m",
                "format": "chat",
                "max_tokens": 512,
                "optim.optimizer": "adamw_8bit",
                "optim.batch": 2,
                "optim.accumulate": 4,
                "optim.lr": 2e-4,
                "optim.steps": 60,
                "prompts": ["Explain AGI in simple terms?"],
            },
        )
    },
}
# Base on all tasks; adapters too, or on their own alone.
RUNS = {
    "phi35-multitask": 5,
    "task-adapters": 24,
    "flan-t5-medical": 6,
    "tinyllama-discharge-toon": 2,
    "smollm2-deepthink": 4,
}


def as_built(name: str) -> Recipe:
    return load_recipe(name, default_catalog(), variant="as-built")


def at(settings: dict[str, Any], path: str) -> object:
    value: Any = settings
    for part in path.split("."):
        value = value[part]
    return value


@pytest.mark.parametrize("name", BUILT)
def test_a_variant_as_built_has_what_the_projects_files_have(name: str) -> None:
    recipe = as_built(name)
    assert list(recipe.spec.adapters) == list(BUILT[name])
    for adapter, (tasks, settings) in BUILT[name].items():
        spec = recipe.spec.for_adapter(adapter)
        assert spec.adapters[adapter].tasks == tasks
        held = spec.model_dump(mode="json")
        if spec.lora.targets is None:  # As the model's own declaration has them.
            held["lora"]["targets"] = ALL_SEVEN
        assert {path: at(held, path) for path in settings} == settings


def test_alpha_stays_what_it_is_at_every_rank_of_a_sweep() -> None:
    recipe = as_built("task-adapters")
    specs = [recipe.with_overrides({"lora.rank": rank}).spec for rank in (32, 64, 128)]
    scales = [{(own := spec.for_adapter(name).lora).alpha / own.rank for name in spec.adapters} for spec in specs]
    assert scales == [{0.5}, {0.25}, {0.125}]


def test_the_second_medical_adapter_goes_on_from_the_first() -> None:
    adapters = as_built("flan-t5-medical").spec.adapters
    assert adapters["medquad"].init_adapter is None
    assert adapters["icliniq"].init_adapter is not None
    assert adapters["icliniq"].init_adapter.adapter == "medquad"


@pytest.mark.parametrize("name", BUILT)
def test_a_variant_as_built_runs_whole_on_its_twin(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("SLMBENCH_BERTSCORE", "SLMBENCH_DATA", "SLMBENCH_PATH"):
        monkeypatch.delenv(variable, raising=False)
    assert main(["run", name, "--variant", "as-built", "--twin", "--out", str(tmp_path), "--json"]) == 0
    board = json.loads(capsys.readouterr().out)
    trained = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("adapters/*/training.json")}
    assert set(trained) == set(BUILT[name])
    recipe = as_built(name)
    for record in trained.values():
        settings = record["settings"]
        assert (record["variant"], record["method"]) == ("as-built", recipe.spec.method)
        assert (settings["loss"], settings["format"]) == (recipe.spec.loss, recipe.spec.format)
        assert all(part["parity_rows"] == part["rows"] > 0 for part in record["tasks"].values())
        assert record["steps"] == 6
    runs = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/run.json")]
    assert len(runs) == RUNS[name]
    assert all("twin" in row["badges"] for row in board["rows"])
    assert bool(board.get("published")) == bool(recipe.published)
