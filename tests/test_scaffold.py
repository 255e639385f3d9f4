"""A new task passes check at once, overwrites nothing and leaves nothing half-made."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from slmbench import scaffold
from slmbench.catalog import Catalog, default_catalog
from slmbench.checks import check_task
from slmbench.errors import SlmbenchError, UsageError
from slmbench.lengths import Ruler
from slmbench.paths import bundled_root
from slmbench.recipe import load_recipe
from slmbench.scaffold import new_task


def _everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("name", ["findings", "123", "true", "1e3", "a.b-c_d"])
def test_a_new_task_passes_check_and_its_recipe_loads(name: str, tmp_path: Path, nano_tokenizer: Any) -> None:
    files = new_task(name, str(tmp_path)).files
    assert all(os.path.isfile(path) for path in files)
    assert sorted(os.path.relpath(path, tmp_path) for path in files) == sorted(
        path for path in _everything(tmp_path) if (tmp_path / path).is_file()
    )
    catalog = Catalog([bundled_root(), str(tmp_path)])
    report = check_task(name, catalog, ruler=Ruler("nano", nano_tokenizer))
    assert report.problems == () and report.notices == ()
    assert (report.source, report.rows) == ("file", 64)
    recipe = load_recipe(name, catalog)
    assert list(recipe.spec.adapters) == [name]
    assert recipe.evaluation_tasks(catalog) == [name]


def test_the_rows_are_the_same_every_time_and_in_one_file_only(tmp_path: Path) -> None:
    first, second = new_task("one", str(tmp_path / "a")).files, new_task("two", str(tmp_path / "b")).files
    seen: list[str] = []
    for path, other in zip(first, second, strict=True):
        if path.endswith(".jsonl"):
            lines = Path(path).read_text(encoding="utf-8").splitlines()
            assert lines == Path(other).read_text(encoding="utf-8").splitlines()
            seen += lines
    assert len(seen) == len(set(seen)) == 64


def test_the_golden_answers_are_what_the_reports_say_last(tmp_path: Path) -> None:
    for path in new_task("findings", str(tmp_path)).files:
        if path.endswith(".jsonl"):
            for line in Path(path).read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                mentioned = [word for word in row["report"].replace(".", " ").split() if word == row["finding"]]
                assert mentioned, row


@pytest.mark.parametrize("name", ["", "my task", "../up", "a/b", "-x", "x.", "ä", ".hidden", "x" * 81])
def test_a_bad_name_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a valid task name"):
        new_task(name, str(tmp_path))
    assert _everything(tmp_path) == []


def test_a_name_that_the_catalog_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="task 'gsm8k' already exists"):
        new_task("gsm8k", str(tmp_path))
    with pytest.raises(UsageError, match="recipe 'nano-quickstart' already exists"):
        new_task("nano-quickstart", str(tmp_path))
    assert _everything(tmp_path) == []


def test_a_folder_that_exists_is_never_overwritten(tmp_path: Path) -> None:
    new_task("mine", str(tmp_path))
    edited = tmp_path / "tasks" / "mine" / "task.yaml"
    edited.write_text("edited")
    with pytest.raises(UsageError, match=r"tasks/mine already exists"):
        new_task("mine", str(tmp_path))
    assert edited.read_text() == "edited"


def test_a_recipe_that_exists_is_never_overwritten(tmp_path: Path) -> None:
    recipe = tmp_path / "registry" / "recipes" / "mine.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("edited")
    with pytest.raises(UsageError, match=r"recipes/mine\.yaml already exists"):
        new_task("mine", str(tmp_path))
    assert recipe.read_text() == "edited" and not (tmp_path / "tasks").exists()


def test_task_folders_directly_in_a_root_are_not_hidden_by_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / "task.yaml").write_text("summary: Older.\n")
    new_task("newer", str(tmp_path))
    assert list(Catalog([str(tmp_path)]).files("tasks")) == ["newer", "older"]


def test_nothing_is_left_where_writing_fails_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = scaffold.write_atomically
    calls: list[str] = []
    endings: list[str] = []

    def failing(path: str, data: bytes) -> None:
        calls.append(path)
        if path.endswith(endings[-1]):
            raise SlmbenchError("the disk is full")
        real(path, data)

    monkeypatch.setattr(scaffold, "write_atomically", failing)
    # The third file of the folder, and the recipe, which comes when the folder is in place.
    for ending in ("test.jsonl", "mine.yaml"):
        endings.append(ending)
        with pytest.raises(SlmbenchError, match="disk is full"):
            new_task("mine", str(tmp_path / "out"), default_catalog())
        assert _everything(tmp_path) == []
    assert len(calls) == 3 + 5


def test_a_root_that_is_a_file_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SlmbenchError, match="file"):
        new_task("mine", str(tmp_path / "file"))
