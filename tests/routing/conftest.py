"""Three tasks of the embedded model, an adapter for each (random ones: a router reads texts), shared by these tests."""

from __future__ import annotations

import json

import pytest

from slmbench.catalog import default_catalog
from slmbench.models import load_model, read_adapter, resolve_model
from slmbench.routing import fit_router, texts_of
from slmbench.task import load_task

TASKS = {"nano_arithmetic": "arithmetic", "nano_note": "note", "nano_choice": "choice"}


@pytest.fixture(scope="session")
def base():
    """The embedded model, shared: what is put on it is taken off."""
    return load_model(resolve_model("nano", default_catalog()))


@pytest.fixture(scope="session")
def owners():
    """task -> the name of its adapter."""
    return TASKS


@pytest.fixture(scope="session")
def texts():
    """Of the three tasks: 60 rows to fit, 40 to choose by."""
    return [texts_of(load_task(name), rows=60, validation_rows=40) for name in TASKS]


@pytest.fixture(scope="session")
def random_adapter():
    """random_adapter(loaded, folder, seed, tasks) -> the folder, with an adapter as a training on `tasks` leaves it."""
    return _random_adapter


def _random_adapter(loaded, folder, seed, tasks=(), rank=4, **options):
    import peft
    import torch

    torch.manual_seed(seed)
    targets = options.pop("targets", ["q_proj", "v_proj"])
    config = peft.LoraConfig(r=rank, target_modules=targets, task_type="CAUSAL_LM", init_lora_weights=False, **options)
    model = peft.get_peft_model(loaded.model, config)
    model.save_pretrained(folder)
    model.unload()
    training = {
        "model": loaded.source.name,
        "base_weights_sha256": loaded.weights_sha256,
        "dtype": loaded.dtype,
        "tasks": {task: {} for task in tasks},
    }
    (folder / "training.json").write_text(json.dumps(training))
    return folder


@pytest.fixture(scope="session")
def adapters(base, tmp_path_factory):
    """name -> AdapterInfo, of different ranks and targets."""
    shelf = tmp_path_factory.mktemp("adapters")
    targets = (["q_proj", "v_proj"], ["q_proj"], ["q_proj", "up_proj"])
    return {
        name: read_adapter(
            str(_random_adapter(base, shelf / name, seed, [task], rank=2 + 2 * seed, targets=targets[seed]))
        )
        for seed, (task, name) in enumerate(TASKS.items())
    }


@pytest.fixture(scope="session")
def router(texts, adapters, base):
    """Fitted by `auto`."""
    return fit_router(texts, adapters, TASKS, base)
