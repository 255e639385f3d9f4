"""What tests of odd inputs share: models made of the embedded one, and how they are edited, loaded and scored."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.models import load_model, resolve_model
from slmbench.paths import package_dir
from slmbench.task import load_task

NANO = Path(package_dir()) / "nano" / "model"


@pytest.fixture
def clone(tmp_path):
    """clone(name) -> a folder with the embedded model, as another tool might have left it; its weights are linked."""

    def make(name="other"):
        folder = tmp_path / name
        folder.mkdir()
        for path in NANO.iterdir():
            if path.suffix == ".safetensors":
                os.symlink(path, folder / path.name)
            elif path.is_file():
                shutil.copy(path, folder)
        return folder

    return make


@pytest.fixture(scope="session")
def edit():
    """edit(path, key=value, ...) changes keys of a JSON file."""

    def change(path, **values):
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


@pytest.fixture(scope="session")
def load():
    """load(name or folder) -> the loaded model."""
    return lambda model: load_model(resolve_model(str(model), default_catalog()))


@pytest.fixture(scope="session")
def nano():
    """The embedded model; shared by all tests: change nothing in it."""
    return load_model(resolve_model("nano", default_catalog()))


@pytest.fixture
def scored(tmp_path):
    """scored(loaded, "nano_choice,nano_note", **options) -> the runs, of a few items each."""

    def run(loaded, tasks="nano_choice,nano_note", *, limit=3, **options):
        number = len(list(tmp_path.glob("out*")))
        ready = [load_task(task) for task in tasks.split(",")]
        return evaluate_tasks(
            loaded, ready, EvaluationOptions(out=str(tmp_path / f"out{number}"), limit=limit, **options)
        )

    return run


@pytest.fixture(scope="session")
def computed():
    """computed(runs) -> all that a model made of what it was asked."""
    keys = ("prompt", "output", "loglikelihoods", "tokens_in", "tokens_out", "finish_reason")
    return lambda runs: [[{key: row[key] for key in keys} for row in run.samples()] for run in runs]
