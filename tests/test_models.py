"""Models from folders: what doesn't fit together is an error and never a score."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.errors import SlmbenchError, UsageError
from slmbench.evaluation import evaluate_tasks
from slmbench.models import load_model, resolve_model
from slmbench.paths import package_dir
from slmbench.task import load_task


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(Path(package_dir()) / "nano" / "model", tmp_path / "mine"))


def _load(folder):
    return load_model(resolve_model(str(folder), default_catalog()))


def _change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "said"),
    [({"num_hidden_layers": 9}, "tensors are missing"), ({"num_hidden_layers": 2}, "tensors have no place")],
)
def test_weights_that_do_not_fit_their_config_are_refused(folder, values, said):
    _change(folder, **values)
    with pytest.raises(SlmbenchError, match=said):
        _load(folder)


def test_weights_of_another_shape_are_refused(folder):
    _change(folder, hidden_size=64)
    with pytest.raises(SlmbenchError, match=r"can't be loaded|another shape"):
        _load(folder)


def test_cut_weights_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SlmbenchError, match="can't be loaded"):
        _load(folder)


def test_folder_without_a_config_is_no_model(tmp_path):
    with pytest.raises(UsageError, match=r"holds no config\.json"):
        resolve_model(str(tmp_path), default_catalog())


def test_same_weights_under_another_config_are_another_run(folder, tmp_path):
    task = load_task("nano_choice")
    (first,) = evaluate_tasks(_load(folder), [task], out=str(tmp_path / "out"), limit=4)
    _change(folder, rms_norm_eps=0.5)
    (second,) = evaluate_tasks(_load(folder), [task], out=str(tmp_path / "out"), limit=4)
    assert first.record["model"]["weights_sha256"] == second.record["model"]["weights_sha256"]
    assert first.run_id != second.run_id
    assert first.samples()[0]["loglikelihoods"] != second.samples()[0]["loglikelihoods"]
