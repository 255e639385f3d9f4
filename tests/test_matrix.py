"""The table of `tox -m matrix`: what it says of families that held, failed, were skipped or never ran."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HELD: dict[str, Any] = {"ok": True, "problems": [], "parity_rows": 3, "refused": {}}
RECIPE: dict[str, Any] = {"ok": True, "exit_code": 0, "seconds": 1.0}


@pytest.fixture(scope="module")
def matrix() -> ModuleType:
    path = Path(__file__).parent / "matrix.py"
    spec = importlib.util.spec_from_file_location("slmbench_matrix", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def write(folder: Path, matrix: ModuleType, **changed: dict[str, Any]) -> None:
    for family, model in matrix.MODELS.items():
        sound = {
            "family": family,
            "model": model,
            "weights": "twin",
            "tasks": {"gsm8k": HELD, "ropes": HELD},
            "recipes": {"a-recipe": RECIPE},
            "seconds": 9.0,
        }
        (folder / f"{family}.json").write_text(json.dumps(sound | changed.get(family, {})))


def test_all_families_that_held_are_one_table(
    matrix: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, matrix)
    assert matrix.report(tmp_path) is True
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["family", "model", "weights", "tasks", "parity", "rows", "a-recipe", "seconds"]
    assert [row.split() for row in rows] == [
        [family, model, "twin", "2/2", "6", "ok", "9.0"] for family, model in matrix.MODELS.items()
    ]


def test_one_failure_fails_the_whole_and_is_told(
    matrix: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken_task = {"gsm8k": HELD, "ropes": HELD | {"ok": False, "problems": ["chat: no"]}}
    broken_recipe = {"a-recipe": {"ok": False, "exit_code": 1, "problem": "error: why"}}
    for family, changed in (("llama", {"tasks": broken_task}), ("t5", {"recipes": broken_recipe})):
        write(tmp_path, matrix, **{family: changed})
        assert matrix.report(tmp_path) is False
    said = capsys.readouterr().out
    assert "FAILED task ropes: chat: no" in said
    assert "1/2" in said
    assert "FAILED recipe a-recipe: exit code 1" in said and "error: why" in said


def test_refused_and_skipped_are_said_and_no_failure(
    matrix: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = {"a-recipe": {"ok": True, "exit_code": 2, "seconds": 1.0, "refused": "error: no line breaks"}}
    skipped = {"weights": "real", "skipped": "no weights in the hub's cache"}
    write(tmp_path, matrix, t5={"recipes": refused}, phi3=skipped)
    assert matrix.report(tmp_path) is True
    said = capsys.readouterr().out
    assert "a-recipe refused: error: no line breaks" in said
    assert "phi3: skipped: no weights in the hub's cache" in said


def test_a_family_without_a_result_is_missed(
    matrix: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, matrix)
    (tmp_path / "qwen2.json").unlink()
    assert matrix.report(tmp_path) is False
    assert "no result: qwen2" in capsys.readouterr().out


def test_every_family_has_a_model_of_its_own_kind_in_the_registry(matrix: ModuleType) -> None:
    from slmbench.catalog import default_catalog
    from slmbench.models import resolve_model

    for family, model in matrix.MODELS.items():
        assert resolve_model(model, default_catalog()).family == family
