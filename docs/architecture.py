"""Writes docs/architecture.md from the layer table in tests/test_layers.py and the modules' first lines.

python docs/architecture.py [--check]
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "architecture.md"
HEAD = """\
<!-- Generated: python docs/architecture.py -->
# Architecture

A task is declared once. Training, evaluation, export and leaderboard all ask the same `Task` for the same prompt, so
that what is trained can't drift from what is scored. The parts below are layers, the highest first. A part imports only
from the layers below its own, at run time and inside functions alike; a test holds that, and that there is no cycle.

The heavy packages are imported inside the functions that need them, so that `slmbench list` costs little more than
Python's own start: {heavy}.

| layer | part | what it is |
| ---: | --- | --- |
"""


def test_constants() -> tuple[dict[str, int], set[str]]:
    """The layer table and the heavy packages, as the test that holds them has them; the test isn't run."""
    tree = ast.parse((TOP / "tests" / "test_layers.py").read_text(encoding="utf-8"))
    found = {}
    for node in tree.body:
        target = (
            node.target
            if isinstance(node, ast.AnnAssign)
            else node.targets[0]
            if isinstance(node, ast.Assign)
            else None
        )
        if isinstance(target, ast.Name) and target.id in ("LAYERS", "HEAVY") and node.value is not None:
            found[target.id] = ast.literal_eval(node.value)
    return found["LAYERS"], found["HEAVY"]


def first_line(part: str) -> tuple[str, str]:
    """(the part's path, the first sentence or paragraph of its docstring)."""
    package = TOP / "slmbench" / part
    path = package / "__init__.py" if package.is_dir() else package.with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    shown = f"{part}/" if package.is_dir() else f"{part}.py"
    return shown, " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")


def page() -> str:
    """The whole page."""
    layers, heavy = test_constants()
    there = {part: layer for part, layer in layers.items() if any((TOP / "slmbench").glob(f"{part}*"))}
    rows = []
    for layer in sorted(set(there.values()), reverse=True):
        for part in sorted(part for part, own in there.items() if own == layer):
            shown, about = first_line(part)
            rows.append(f"| {layer} | `{shown}` | {about} |")
    return HEAD.format(heavy=", ".join(sorted(heavy))) + "\n".join(rows) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        if PAGE.read_text(encoding="utf-8") != page():
            sys.exit("docs/architecture.md is not of this layer table: run python docs/architecture.py")
    else:
        PAGE.write_text(page(), encoding="utf-8")
