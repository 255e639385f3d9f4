"""Every code block of README and docs runs, or is held to what slmbench has: no block is of no class."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, TOP, Block, blocks_of
from tests.docs.checks import CHECKS, Page

pytestmark = pytest.mark.skipif(not (TOP / "mkdocs.yml").is_file(), reason="only in a checkout")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(TOP).as_posix())
def test_every_block_of_a_page_is_in_a_language_and_fits_what_there_is(path: Path) -> None:
    page, faults = Page(), []
    for block in blocks_of(path):
        if block.language not in CHECKS:
            faults.append(f"{block.place}: {block.language or 'no'} language; there are {', '.join(CHECKS)}")
        else:
            faults += [f"{block.place}: {fault}" for fault in page.faults(block)]
    assert faults == []


@pytest.mark.parametrize(
    ("language", "text", "said"),
    [
        ("sh", "slmbench eval nano --taks nano_note", "--taks"),
        ("sh", "slmbench eval nano --tasks nano_note,nano_notes", "no 'nano_notes' among tasks"),
        ("sh", "slmbench eval nanno --tasks nano_note", "did you mean 'nano'"),
        ("sh", "slmbench eval nano --limit few --tasks nano_note", "'few' is not a valid integer range"),
        ("sh", "slmbench train nano-quickstrat", "nano-quickstrat"),
        ("sh", "slmbench train nano-quickstart --set optim.rl=1", "optim.rl"),
        ("sh", "slmbench train task-adapters --variant qlorra", "qlorra"),
        ("sh", "slmbench train nano-quickstart --adapter notes", "nano-quickstart has no 'notes'"),
        ("sh", "SLMBENCH_DATA=here slmbench evaluate nano | jq .", "evaluate"),
        ("sh", "echo 1 && slmbench eval \\\n  nano nano_note --tasks nano_note", "unexpected"),
        ("sh", "slmbench compare a", "b"),
        ("sh", "curl example.com", "'curl' is in no list"),
        ("yaml", "summary: x\nmodle: nano", "is of no kind of declaration"),
        ("yaml", "summary: x\nmodel: nano\nadapters: {}\nevaluation: {suite: nano}", "is of no kind of declaration"),
        ("yaml", "jobs: {one: {steps: [{run: slmbench compares a b}]}}", "compares"),
        ("python", "import slmbench\nslmbench.evaluates('nano')", "no 'evaluates'"),
        ("python", "slmbench.evaluate('nano', ['nano_note'], limits=2)", "limits"),
        ("text", "slmbench eval nano", "a command in a block of text"),
    ],
)
def test_a_block_that_does_not_hold_is_told(language: str, text: str, said: str) -> None:
    (fault,) = Page().faults(Block("page.md", 1, language, text))
    assert said in fault


@pytest.mark.parametrize(
    ("text", "said"),
    [("```sh\nls\n", "without an end"), ("a\n\n    ls\n", "by indentation"), ("```\n```sh\n", "within the one")],
)
def test_a_page_that_hides_a_block_is_told(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.docs.blocks.TOP", tmp_path)
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(ValueError, match=said):
        list(blocks_of(tmp_path / "page.md"))
