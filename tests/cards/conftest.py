"""An output folder as a training and an evaluation leave it, by their own writers, with scores of a test's choice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.models import read_adapter
from slmbench.recipe import load_recipe
from slmbench.runs import write_training
from tests.leaderboard.conftest import make_run

BASE = "smollm2-135m-instruct"
HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
RIGHT = [1, 0, 1, 1, 0, 1, 1, 1, 1, 0] * 4
WRONG = [0, 0, 1, 0, 0, 1, 0, 0, 1, 0] * 4
ON_HUB = {"dataset.id": "openai/gsm8k", "dataset.revision": "e53f048856ff4f594e959d75785d2c2d37b678ee"}


def training(recipe: str = "smollm2-tour", adapter: str = "gsm8k-r16", **changes: Any) -> dict[str, Any]:
    """A training.json of a recipe of the registry."""
    spec = load_recipe(recipe, default_catalog()).spec_of(adapter)
    settings = spec.model_dump(mode="json", exclude={"published"})
    settings["adapters"] = {adapter: spec.adapters[adapter].model_dump(mode="json")}
    overlap = {"training": "gsm8k", "evaluation": "gsm8k/test", "training_rows": 96, "evaluation_items": 1319}
    hits = {"exact": 0, "normalised": 0, "ngram": 3, "golden": False, "examples": [{"text": "a patient called Doe"}]}
    return {
        "schema": 3,
        "recipe": recipe,
        "settings": settings,
        "method": "lora",
        "model": BASE,
        "base": {"name": BASE, "id": HUB, "location": HUB, "revision": None, "twin": False},
        "architecture": "causal",
        "base_weights_sha256": "a" * 64,
        "trainable_parameters": 4_884_480,
        "seed": 0,
        "steps": 24,
        "mixture": {"unit": "examples", "tasks": {"gsm8k": {"rows": 93, "tokens": 20_183, "share": 1.0}}},
        "tasks": {
            "gsm8k": {
                "rows": 93,
                "tokens": 20_183,
                "truncated_rows": 26,
                "truncated_answers": 1,
                "dropped_rows": 3,
                "dropped": {"contamination": 3},
                "parity_rows": 24,
            }
        },
        "contamination": {"overlaps": [overlap | hits], "notes": []},
        "memory": {"peak_bytes": 2_811_666_432, "forecast": {"forecast_bytes": 2_784_654_206}},
        "train_s": 453.6,
        "tokens_per_second": 44.5,
        "hardware": {"cpu": "AMD EPYC", "cores": 2, "ram_bytes": 25_276_063_744, "gpu": None},
        **changes,
    }


def write_adapter(folder: Path, record: dict[str, Any] | None, base: str = HUB) -> str:
    """Writes an adapter's folder; returns its digest. record: its training.json, None for one made elsewhere."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    save_file({"lora_A": np.ones((4, 8), np.float32)}, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "task_type": "CAUSAL_LM", "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    if record is not None:
        write_training(folder, record)
    return read_adapter(str(folder)).sha256


def write_out(out: Path, name: str = "gsm8k-r16", record: dict[str, Any] | None = None, **options: Any) -> Path:
    """An output folder with an adapter, its run and its base's; returns the adapter's folder. options: of the runs."""
    folder = out / "adapters" / name
    digest = write_adapter(folder, training() if record is None else record)
    common = {"model": BASE, "task": "gsm8k", "source": "mirror", **options}
    changes = {**ON_HUB, **common.pop("changes", {})}
    make_run(out, "base", WRONG, changes=changes, **common)
    own = changes | {"adapter.sha256": digest}
    make_run(out, "tuned", RIGHT, adapter=name, changes=own, **common)
    return folder


@pytest.fixture
def make_out(tmp_path: Path) -> Callable[..., Path]:
    """make_out(**options) -> the adapter's folder in a new output folder; see `write_out`."""
    return lambda **options: write_out(tmp_path / "out", **options)
