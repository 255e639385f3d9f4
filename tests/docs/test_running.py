"""What tutorials show runs as it stands, in order, in one folder; so do blocks of Python that nano can run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from slmbench.cli import main
from tests.docs.blocks import PAGES, TOP, blocks_of, commands
from tests.docs.running import run_command, run_page

pytestmark = pytest.mark.skipif(not (TOP / "mkdocs.yml").is_file(), reason="only in a checkout")
TUTORIALS = TOP / "docs" / "tutorials"
# The same trainings and evaluations on less: what is put behind a command, the first that has these words.
SMALLER = {
    "first-adapter.md": {
        "--adapter note --dry-run": "--set rows=64 --set adapters.note.steps=4",
        "train nano-quickstart --adapter note": "--set rows=64 --set adapters.note.steps=4",
        "slmbench eval": "--limit 8",
    },
    "which-model.md": {
        "slmbench train": "--set rows=64 --set adapters.choice.steps=2 --set adapters.multi.steps=2 "
        "--set adapters.multi.tasks=[nano_choice]",
    },
    "own-task.md": {"slmbench run": "--set optim.steps=6"},
}


# Commands of other pages that run as they stand where the first tutorials left their results.
ALSO = (
    "slmbench list recipes",
    "slmbench list tasks",
    "slmbench list models",
    "slmbench show model llama-3.2-1b-instruct",
    "slmbench show recipe task-adapters",
    "slmbench cite",
    "slmbench leaderboard slmbench-out",
    "slmbench compare nano nano+note --in slmbench-out",
    "slmbench export slmbench-out/adapters/arithmetic --to merged",
    "slmbench export slmbench-out/adapters/arithmetic --to ollama",
    "slmbench card slmbench-out/adapters/arithmetic  ",
    "slmbench score slmbench-out  ",
    "slmbench runs export slmbench-out --format",
)


@pytest.mark.parametrize("pages", [("first-adapter.md", "which-model.md"), ("own-task.md",)], ids=" ".join)
def test_a_tutorial_runs_from_its_first_block_to_its_last(
    pages: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for page in pages:
        run_page(TUTORIALS / page, monkeypatch.setenv, SMALLER[page])
    if "first-adapter.md" in pages:
        shutil.copytree("slmbench-out/adapters/note", "slmbench-out/adapters/arithmetic")
        shown = [
            (block, line)
            for page in PAGES
            for block in blocks_of(page)
            if block.language == "sh" and page.parent != TUTORIALS
            for line in commands(block.text)
        ]
        for start in ALSO:
            assert [run_command(block, line, monkeypatch.setenv) for block, line in shown if line.startswith(start)], (
                start
            )


def test_every_tutorial_is_run() -> None:
    assert sorted(path.name for path in TUTORIALS.glob("*.md")) == sorted(SMALLER)


@pytest.mark.parametrize(
    ("page", "words", "before"),
    [
        ("README.md", "slmbench.load_task", ""),
        ("docs/merging.md", "slmbench.merge_tensors", ""),
        ("docs/results.md", "board = json.load", "eval nano --tasks nano_choice --limit 4 --out out"),
        ("docs/runs.md", "runs.to_pandas", "eval nano --tasks gsm8k --data samples --limit 2"),
    ],
)
def test_a_block_of_python_runs(
    page: str, words: str, before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    assert not before or main(before.split()) == 0
    (block,) = [one for one in blocks_of(TOP / page) if words in one.text]
    there: dict[str, Any] = {name: torch.arange(3.0) + i for i, name in enumerate(("base", "one", "two"))}
    exec(compile(block.text, block.place, "exec"), there)
