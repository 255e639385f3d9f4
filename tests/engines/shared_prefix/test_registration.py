"""The engine under lm-eval's own names: in its registry, and on its command line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from slmbench.catalog import default_catalog


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"}
    )


def test_importing_the_package_registers_the_engine() -> None:
    code = """
import sys
import slmbench.evaluation
assert "torch" not in sys.modules and "transformers" not in sys.modules
import lm_eval.api.registry
from lm_eval.models.huggingface import HFLM
found = lm_eval.api.registry.get_model("slmbench")
from slmbench.evaluation.shared_prefix import SharedPrefixLM, register
assert found is SharedPrefixLM and issubclass(found, HFLM) and found is not HFLM
register()
assert lm_eval.api.registry.get_model("slmbench") is found
assert lm_eval.api.registry.get_model("hf") is HFLM
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


def test_its_command_line_is_lm_evals() -> None:
    done = python("-m", "slmbench.evaluation.shared_prefix", "run", "--help")
    assert done.returncode == 0, done.stderr
    assert "--tasks" in done.stdout


def test_it_is_made_from_lm_evals_argument_string() -> None:
    from lm_eval.api.registry import get_model

    import slmbench.evaluation  # noqa: F401  (registers it)
    from slmbench.models import resolve_model

    folder = resolve_model("nano", default_catalog()).location
    given = f"pretrained={folder},kv_budget_bytes=1000000,seed=3,latency=True,dtype=float32"
    engine = get_model("slmbench").create_from_arg_string(given, {"batch_size": "2", "device": "cpu"})
    inner = engine.engine
    assert (inner.room.kv_budget_bytes, inner.seed, inner.latency, engine.batch_size) == (1_000_000, 3, True, 2)
    assert engine.engine.room.ability.reason == ""


def test_no_other_name_is_there() -> None:
    from slmbench.evaluation import shared_prefix

    with pytest.raises(AttributeError, match="has no attribute 'SharedPrefix'"):
        _ = shared_prefix.SharedPrefix
