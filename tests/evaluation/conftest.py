from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.models import ModelSource, bind_model, load_model, resolve_model

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def benchmark_module(name):
    """A module of benchmarks/, which is no package: tests and benchmarks ask the same oracles."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def stories_folder():
    folder = os.environ.get("SLMBENCH_STORIES260K")
    if not folder:
        pytest.skip("SLMBENCH_STORIES260K names no folder with stories260K.bin")
    return Path(folder)


@pytest.fixture(scope="session")
def stories(stories_folder):
    """The real 260K-parameter model, in memory."""
    model, tokenizer = benchmark_module("stories260k").load(stories_folder)
    return bind_model(ModelSource("stories260K", "karpathy/tinyllamas", "memory"), model, tokenizer)


@pytest.fixture(scope="session")
def lm_eval_own():
    return benchmark_module("lm_eval_own")


@pytest.fixture
def nano():
    """The embedded model, loaded anew: training patches it."""
    return load_model(resolve_model("nano", default_catalog()))
