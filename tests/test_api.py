"""The public names of the package."""

from __future__ import annotations

import subprocess
import sys

import pytest

import slmbench


def test_import_costs_nothing_heavy():
    code = (
        "import sys, slmbench; print([n for n in ('torch', 'transformers', 'pydantic', 'attrs') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", slmbench.__all__)
def test_every_public_name_is_there(name):
    assert getattr(slmbench, name).__doc__


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        slmbench.nope  # noqa: B018


def test_evaluate_takes_names_and_returns_runs(tmp_path):
    (run,) = slmbench.evaluate("nano", ["nano_choice"], out=str(tmp_path), limit=3)
    assert run.record["task"]["id"] == "nano_choice"
    assert len(run.samples()) == 3
