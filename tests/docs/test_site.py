"""Holds README and docs to themselves: what they link to is there, and every page is in the site."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest
import yaml

from slmbench.catalog import Catalog
from slmbench.headers import own_headers
from slmbench.paths import bundled_root
from tests.docs.blocks import PAGES, TOP

DOCS = TOP / "docs"
README = (TOP / "README.md").read_text(encoding="utf-8") if (TOP / "mkdocs.yml").is_file() else ""
LINKED = [*PAGES, TOP / "benchmarks" / "RESULTS.md"]
pytestmark = pytest.mark.skipif(not (TOP / "mkdocs.yml").is_file(), reason="only in a checkout")


def prose(page: Path) -> str:
    """A page without its code."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]+`", lambda code: code[0].replace("[", "(").replace("#", ""), text)


def anchors(page: Path) -> set[str]:
    """The headings' addresses, as forges and both builders make them."""
    heads = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head).strip().lower().replace(" ", "-") for head in heads}


def links(page: Path) -> Iterator[str]:
    """What a page links to, pictures too, addresses of other places apart."""
    for target in re.findall(r"\]\(([^()\s]+)\)", prose(page)):
        if not re.match(r"https?://|mailto:", target):
            yield unquote(target)


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.relative_to(TOP).as_posix())
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        assert to.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(to), f"{page.name} links to {target}: no such heading"
        # The site has nothing but docs/.
        assert DOCS not in page.parents or DOCS in to.parents, f"{page.name} links to {target}, outside of docs/"


def test_every_page_is_in_one_part_of_the_site_and_named_on_its_first_page() -> None:
    site = yaml.safe_load((TOP / "mkdocs.yml").read_text(encoding="utf-8"))
    first, *parts = site["nav"]
    assert [next(iter(part)) for part in parts] == ["Tutorials", "How-to", "Reference", "Projects", "Explanation"]
    listed = [path for part in parts for pages in part.values() for page in pages for path in page.values()]
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert sorted([*listed, *first.values()]) == sorted(there)
    assert [target for target in links(DOCS / "index.md") if target.endswith(".md")] == listed


def script(name: str) -> ModuleType:
    """A script that makes pages; nothing of it is run."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_of_commands_and_declarations_are_of_this_code() -> None:
    old = [path.name for path, text in script("reference").made().items() if path.read_text(encoding="utf-8") != text]
    assert old == [], "run python docs/reference.py"
    commands = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| .+ \| (?:\[.*)?\|$", commands, re.MULTILINE) == [], "options without a help"


@pytest.mark.parametrize(
    ("kind", "page"),
    [
        ("tasks", "library"),
        ("suites", "library"),
        ("models", "models"),
        ("recipes", "recipes"),
        ("metric", "metrics"),
        ("merge_method", "merging"),
    ],
)
def test_the_page_of_a_kind_names_all_that_there_is(kind: str, page: str) -> None:
    catalog = Catalog([bundled_root()])
    names = catalog.files(kind) if kind.endswith("s") else [header.name for header in own_headers(kind)]
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in text and not name.startswith("pass@")] == []
    if kind == "tasks":
        assert re.findall(r"slmbench list tasks +# (\d+) of them", README) == [str(len(names))]


def test_a_bar_in_a_cells_code_is_one_for_the_site_and_for_a_forge() -> None:
    # A backslash before it is seen in the site; a bare one ends the cell on a forge.
    cells = [(page.name, line) for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()]
    assert [place for place in cells if place[1].startswith("| ") and re.search(r"`[^`|]*\\\|[^`]*`", place[1])] == []
