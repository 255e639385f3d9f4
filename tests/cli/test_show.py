"""`slmbench show` of what is registered: the decorator's words and the function's signature, without running it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slmbench.cli import main

PLUGIN = '''import slmbench

raise SystemExit("nothing of this file is run")


@slmbench.metric("overlap", summary="Words in common.", version="2", range=(0, 10))
@slmbench.metric("overlap/loose", summary="The same, in any case.", version="1")
def overlap(output, references: list) -> float:
    """How many.

    Of them all.
    """
'''


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "words.py").write_text(PLUGIN)
    return tmp_path


def test_a_metric_of_a_plugin_is_shown_without_running_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "metric", "overlap"]) == 0
    assert capsys.readouterr().out == (
        "# plugins/words.py:8\nname: overlap\nsummary: Words in common.\nversion: 2\nfrom: a plugin\nfor: all tasks\n"
        "function: overlap(output, references: list) -> float\nrange: (0, 10)\n\nHow many.\n\nOf them all.\n"
    )


def test_two_names_of_one_function_are_shown_apart(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert main(["show", "metric", "overlap/loose", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["summary"], told["version"], told["facts"]) == ("The same, in any case.", "1", {})
    assert (told["path"], told["line"]) == (str(folder / "plugins" / "words.py"), 8)


def test_what_a_task_brings_is_shown_as_its_own(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    for task in ("one", "two"):
        own = folder / "tasks" / task
        own.mkdir(parents=True)
        (own / "task.yaml").write_text("summary: A task.\n")
        (own / "plugin.py").write_text(PLUGIN.replace("overlap", "shared"))
    assert main(["show", "metric", "shared", "--json"]) == 0
    assert [told["for"] for told in json.loads(capsys.readouterr().out)] == ["task one", "task two"]


@pytest.mark.parametrize(
    ("kind", "name", "function"),
    [
        ("metric", "squad", "squad(prediction: str, references: Sequence[str]) -> dict[str, float]"),
        ("metric", "pass@10", ""),
        ("format", "toon", ""),
    ],
)
def test_slmbench_s_own_are_shown_alike(
    capsys: pytest.CaptureFixture[str], kind: str, name: str, function: str
) -> None:
    assert main(["show", kind, name, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["name"], told["from"], told["for"]) == (kind, name, "slmbench", "all tasks")
    assert told["function"].startswith(function) and told["summary"] and told["version"]


def test_an_unknown_one_is_told_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "metric", "overlab"]) == 2
    assert "error: unknown metric 'overlab'; did you mean 'overlap'?" in capsys.readouterr().err


def test_pass_at_any_k_is_shown_by_what_is_said_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "metric", "pass@7"]) == 0
    assert (
        "summary: Chance that one sample passes its tests, unbiased; pass@k of any k works" in capsys.readouterr().out
    )
    assert main(["show", "metric", "pass@0"]) == 2
