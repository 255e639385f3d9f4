from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import frozen

from slmbench.catalog import default_catalog
from slmbench.recipe import load_recipe
from slmbench.runs import Run
from slmbench.sweeps import axes_of, points_of


def _metric(name, value, half=0.1, higher=True, method="wilson"):
    return {
        "name": name,
        "value": value,
        "ci_lo": value - half,
        "ci_hi": value + half,
        "method": method,
        "n": 50,
        "higher_is_better": higher,
        "chance": None,
    }


@pytest.fixture
def made_run() -> Callable[..., Run]:
    """made_run(task, {metric: value}) -> a run's record, as evaluation writes it."""

    def make(task="sums", scores=None, *, model="nano", lower=()):
        metrics = [_metric(name, value, higher=name not in lower) for name, value in (scores or {"acc": 0.5}).items()]
        record = {
            "run_id": f"{model}__{task}__{json.dumps(scores, sort_keys=True)}",
            "model": {"name": model},
            "task": {"id": task},
            "metrics": metrics,
        }
        return Run("nowhere", record)

    return make


@pytest.fixture
def trained_folder() -> Callable[..., str]:
    """trained_folder(place, adapter, **cost) -> a folder as training leaves it."""

    def make(place, adapter="sums", *, parameters=1000, size=4096, train_s=2.0, memory=10**9):
        folder = Path(place) / "adapters" / adapter
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter_model.safetensors").write_bytes(b"\0" * size)
        record = {"trainable_parameters": parameters, "train_s": train_s, "ram_peak_bytes": memory}
        (folder / "training.json").write_text(json.dumps(record), encoding="utf-8")
        return str(folder)

    return make


@frozen
class Made:
    """The work of a sweep's points by two functions of the point."""

    train: Callable[..., list[str]]
    evaluate: Callable[..., list[Run]]


@pytest.fixture
def work() -> type[Made]:
    """work(train, evaluate) -> how points are trained and scored."""
    return Made


@pytest.fixture
def nano_points() -> Callable[..., tuple]:
    """nano_points(over..., seeds=...) -> (axes, points) of nano-quickstart."""

    def make(*over, seeds=()):
        recipe = load_recipe("nano-quickstart", default_catalog())
        axes = axes_of(recipe, over, seeds)
        return axes, points_of(recipe, axes, default_catalog())

    return make
