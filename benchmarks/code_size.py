"""How large the code is, part by part: lines, code lines, `Any` in signatures; and whether its imports hold the layers.

    python benchmarks/code_size.py [--tree CHECKOUT] [--against CHECKOUT]

A code line is one that is not blank, comment or docstring alone. The core is what remains without engine, sandbox,
pages, deployment, twins, nano, BERTScore, contamination and training's fast path. Signatures are annotations of
parameters and returns; the names of other libraries' values (slmbench/values.py) are counted apart. Import cycles are
of packages, at run time; an upward import is one that the layer table of `tests/test_layers.py` forbids.
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
# By the start of a path below slmbench/.
BESIDE_THE_CORE = (
    *("contamination/", "training/_contamination", "training/_ngrams"),
    *("deployment/", "nano/", "sandbox/", "twins/"),
    *("engines/", "evaluation/_engine", "evaluation/_journaled", "evaluation/_seq2seq", "evaluation/shared_prefix/"),
    *("leaderboard/_page", "leaderboard/pages/", "sweeps/_page", "sweeps/_panel"),
    *("metrics/_bert", "metrics/bertscore"),
    *("training/_fused", "training/_head", "training/_packed"),
)
OUTSIDE = {"Array", "Backend", "Config", "JsonObject", "Message", "Model", "Tensor", "Tokenizer"}
NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
HEADS = ("lines", "code", "Any", "outside")


def count(path: Path) -> Counter[str]:
    """Lines, code lines, and the two kinds of names in signatures of one file."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    docs: set[int] = set()
    named: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and type(first.value.value) is str:
                docs.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            args = node.args
            every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
            for annotation in [*(arg.annotation for arg in every if arg), node.returns]:
                named.update(names(annotation))
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NOT_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    outside = sum(named[name] for name in OUTSIDE)
    return Counter(lines=text.count("\n"), code=len(code - docs), Any=named["Any"], outside=outside)


def names(annotation: ast.expr | None) -> Iterator[str]:
    """The names in an annotation, those in quotes too."""
    for node in ast.walk(annotation) if annotation is not None else ():
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from names(ast.parse(node.value, mode="eval").body)


def part_of(path: Path, package: Path) -> str:
    """The package, or the module, that a file is of."""
    parts = path.relative_to(package).parts
    return parts[0] if len(parts) > 1 else parts[0].removesuffix(".py")


def sizes(package: Path) -> dict[str, Counter[str]]:
    """What is counted of each part, of the core and of the whole."""
    found: dict[str, Counter[str]] = {}
    core, whole = Counter[str](), Counter[str]()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if name.startswith("_bundled/"):
            continue
        counted = count(path)
        found.setdefault(part_of(path, package), Counter()).update(counted)
        whole.update(counted)
        if not name.startswith(BESIDE_THE_CORE):
            core.update(counted)
    return found | {"core": core, "whole": whole}


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """(module of the package, name taken from it) of every import of a file; not what is for type checkers alone."""
    open_nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "slmbench":
            for name in node.names:
                yield (node.module or "").partition(".")[2], name.name
        elif isinstance(node, ast.Import):
            yield from ((name.name.partition(".")[2], "") for name in node.names if name.name.startswith("slmbench."))
        open_nodes += ast.iter_child_nodes(node)


def arrows(package: Path) -> dict[str, set[str]]:
    """part -> the parts that it imports."""
    found: dict[str, set[str]] = {}
    for path in package.rglob("*.py"):
        own = part_of(path, package)
        targets = {module.split(".")[0] or name for module, name in imported(path)}
        found.setdefault(own, set()).update(target for target in targets if target != own)
    return {own: {target for target in targets if target in found} for own, targets in found.items()}


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of parts that import each other, directly or not."""
    reach = {part: {part} for part in graph}
    for _ in graph:
        for part in graph:
            reach[part] = reach[part].union(*(reach[target] for target in graph[part]))
    groups = {frozenset(other for other in graph if other in reach[part] and part in reach[other]) for part in graph}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def layer_table(tree: Path) -> tuple[dict[str, int], dict[str, int]]:
    """(part -> its layer, module -> its layer where that is not its package's) as the tree's own test holds them."""
    found: dict[str, dict[str, int]] = {"LAYERS": {}, "LAYERS_WITHIN": {}}
    test = tree / "tests" / "test_layers.py"
    for node in ast.parse(test.read_text(encoding="utf-8")).body if test.is_file() else ():
        target = node.target if isinstance(node, ast.AnnAssign) else None
        target = node.targets[0] if isinstance(node, ast.Assign) else target
        if isinstance(target, ast.Name) and target.id in found and node.value is not None:
            found[target.id] = ast.literal_eval(node.value)
    return found["LAYERS"], found["LAYERS_WITHIN"]


def upward(tree: Path) -> list[str]:
    """The imports that the tree's own layer table forbids."""
    package = tree / "slmbench"
    layers, within = layer_table(tree)
    found = set()
    for path in package.rglob("*.py"):
        own = part_of(path, package)
        for module, name in imported(path):
            target = module or name
            part = target.split(".")[0]
            layer = within.get(target, layers.get(part))
            if part != own and layer is not None and own in layers and layer >= layers[own]:
                found.add(f"{own} -> {target}")
    return sorted(found)


def table(trees: list[Path]) -> list[str]:
    """One row a part, a column a tree of each thing that is counted."""
    every = [sizes(tree / "slmbench") for tree in trees]
    parts = list(dict.fromkeys(part for found in every for part in found if part not in ("core", "whole")))
    parts = [
        *sorted(parts, key=lambda part: -max(found.get(part, Counter())["code"] for found in every)),
        "core",
        "whole",
    ]
    heads = [f"{head} {tree.resolve().name}" if len(trees) > 1 else head for head in HEADS for tree in trees]
    lines = [f"| part | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    for part in parts:
        cells = [f"{found[part][head]:,}" if part in found else "" for head in HEADS for found in every]
        lines.append(f"| {part} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tree", type=Path, default=TOP, help="the checkout that is measured (default: this one)")
    parser.add_argument("--against", type=Path, help="a checkout to compare with, as an earlier commit's")
    args = parser.parse_args()
    trees = [*([args.against] if args.against else []), args.tree]
    print("\n".join(table(trees)))
    for tree in trees:
        found = cycles(arrows(tree / "slmbench"))
        print(f"\n{tree.resolve().name}: {len(found)} import cycles{''.join(f', {group}' for group in found)}")
        print(f"{tree.resolve().name}: {len(up := upward(tree))} upward imports{''.join(f', {one}' for one in up)}")


if __name__ == "__main__":
    main()
