"""Holds the shape of the package: who may import whom, and what may be imported only when it is needed."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
PACKAGE = TOP / "slmbench"
MAX_LINES = 450

# A module imports from layers below its own, or from inside its own package.
LAYERS: dict[str, int] = {
    "errors": 0,
    "exchange": 8,
    "paths": 0,
    "visible": -1,
    "console": 0,
    "texts": 1,
    "interrupts": 1,
    "values": 1,
    "yamlfile": 1,
    "citations": 1,
    "files": 1,
    "foreign": 1,
    "hub": 1,
    "journal": 2,
    "seal": 2,
    "installed": 1,
    "schema": 2,
    "headers": 1,
    "registry": 2,
    "catalog": 2,
    "overrides": 2,
    "prints": 1,
    "templates": 2,
    "nano": 3,
    "blocks": 3,
    "plugins": 4,
    "twins": 4,
    "formats": 4,
    "machine": 3,
    "statistics": 3,
    "metrics": 4,
    "gguf_files": 4,
    "sandbox": 4,
    "models": 5,
    "datasets": 5,
    "drafts": 6,
    "lengths": 6,
    "engines": 6,
    "merging": 6,
    "adapters": 6,
    "task": 6,
    "runs": 4,
    "makings": 5,
    "published": 6,
    "initial": 6,
    "recipe": 7,
    "merge_recipe": 8,
    "contamination": 7,
    "checks": 8,
    "mirror": 7,
    "exports": 7,
    "scaffold": 7,
    "evaluation": 7,
    "leaderboard": 7,
    "deployment": 7,
    "cards": 8,
    "tokens": 8,
    "training": 8,
    "routing": 8,
    "scheduling": 8,
    "matrix": 9,
    "sweeps": 9,
    "workflow": 10,
    "cli": 11,
    "__init__": 12,
    "__main__": 12,
}
HEAVY = {
    "torch",
    "transformers",
    "trl",
    "peft",
    "lm_eval",
    "datasets",
    "evaluate",
    "bitsandbytes",
    "sklearn",
    "llama_cpp",
    "vllm",
    "ray",
}
FILES = sorted(PACKAGE.rglob("*.py"))


def layer_of(module: str) -> int:
    """The layer of a module, named without `slmbench.`"""
    return LAYERS[module.split(".")[0]]


def part_of(path: Path) -> str:
    """The name in the layer table that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def dotted(node: ast.AST | None) -> str:
    """`os.environ` of `os.environ["A"]` and of itself; nothing of what is no chain of names."""
    while isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return before and f"{before}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


class Module:
    """What the tests ask about a file, of one parse: trees of all files would take hundreds of megabytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # (module, line, inside a function, for type checkers alone)
        self.imports: list[tuple[str, int, bool, bool]] = []
        self.names_of_os: set[str] = set()
        self.calls: list[tuple[str, int]] = []  # (function, line)
        self.assigned: list[tuple[str, int]] = []  # (what is set or deleted, line)
        self.declared: list[tuple[str, int]] = []  # (parameter, or name with a type, line)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        self.classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
        self._walk(tree, False, False)

    def _walk(self, node: ast.AST, inside: bool, typing: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                self.imports += [(name.name, child.lineno, inside, typing) for name in child.names]
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{self.path}:{child.lineno}: relative import"
                module = child.module or ""
                if module == "slmbench":
                    self.imports += [(f"slmbench.{name.name}", child.lineno, inside, typing) for name in child.names]
                else:
                    self.imports.append((module, child.lineno, inside, typing))
                if module == "os":
                    self.names_of_os.update(name.name for name in child.names)
            else:
                self._note(child)
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                checking = isinstance(child, ast.If) and "TYPE_CHECKING" in dotted(child.test)
                self._walk(child, inside or function, typing or checking)

    def _note(self, node: ast.AST) -> None:
        if isinstance(node, ast.Call):
            self.calls.append((dotted(node.func), node.lineno))
        elif isinstance(node, ast.arg):
            self.declared.append((node.arg, node.lineno))
        elif isinstance(node, ast.AnnAssign):
            self.declared.append((dotted(node.target), node.lineno))
        if isinstance(node, ast.Assign | ast.Delete):
            self.assigned += [(dotted(target), node.lineno) for target in node.targets]
        elif isinstance(node, ast.AnnAssign | ast.AugAssign):
            self.assigned.append((dotted(node.target), node.lineno))


@functools.cache
def module_of(path: Path) -> Module:
    return Module(path)


def imports(path: Path) -> list[tuple[str, int, bool, bool]]:
    return module_of(path).imports


def test_every_module_has_its_layer() -> None:
    assert {part_of(path) for path in FILES} <= set(LAYERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_the_layers_below_its_own(path: Path) -> None:
    own = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    upward = [
        f"{path.relative_to(TOP)}:{line}: {own} (layer {layer_of(own)}) imports {other} (layer {layer_of(other)})"
        for module, line, _, typing in imports(path)
        if module.startswith("slmbench.") and not typing
        if (other := module.removeprefix("slmbench.")).split(".")[0] != part_of(path)
        and layer_of(other) >= layer_of(own)
    ]
    assert upward == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_inside_functions_of_layers_three_to_nine(path: Path) -> None:
    found = [
        (module, line, inside, typing)
        for module, line, inside, typing in imports(path)
        if module.split(".")[0] in HEAVY
    ]
    assert [
        f"{path.relative_to(TOP)}:{line}: {module}" for module, line, inside, typing in found if not (inside or typing)
    ] == []
    if [module for module, _, _, typing in found if not typing]:
        assert 3 <= LAYERS[part_of(path)] <= 9


def test_only_evaluation_and_engines_import_the_harness() -> None:
    users = {part_of(path) for path in FILES for module, *_ in imports(path) if module.split(".")[0] == "lm_eval"}
    assert users == {"evaluation", "engines"}


def test_private_modules_are_imported_by_their_own_package_alone() -> None:
    strangers = [
        f"{path.relative_to(TOP)}:{line}: {module}"
        for path in FILES
        for module, line, *_ in imports(path)
        if module.startswith("slmbench.")
        and any(p.startswith("_") and not p.startswith("__") for p in module.split("."))
        if module.split(".")[1] != part_of(path)
    ]
    assert strangers == []


def test_one_name_means_one_class() -> None:
    defined: dict[str, list[str]] = {}
    for path in FILES:
        for name in module_of(path).classes:
            if not name.startswith("_"):
                defined.setdefault(name, []).append(str(path.relative_to(PACKAGE)))
    twice = {name: paths for name, paths in defined.items() if len(paths) > 1}
    assert twice == {}


def test_no_file_is_longer_than_a_person_reads() -> None:
    lengths = {str(path.relative_to(TOP)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: n for name, n in lengths.items() if n > MAX_LINES} == {}


def test_nothing_in_the_tree_names_a_folder_of_one_machine() -> None:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=TOP,
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("git, or its repository, is not here")
    # Written so that this file does not find itself.
    machine = re.compile(rb"(?<![\w.~-])/(?:work|root|tmp/w)" + rb"/")
    named = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = TOP / name
        if path.is_file() and (found := machine.search(path.read_bytes())):
            named.append(f"{name}: {found[0]!r}")
    assert named == []


def test_nothing_is_written_to_a_terminal_but_by_the_console() -> None:
    own = {"print", "click.echo", "click.secho", "error.show", "sys.stdout.write", "sys.stderr.write"}
    writes = [
        f"{path.relative_to(TOP)}:{line}: {function}"
        for path in FILES
        if part_of(path) != "console"
        for function, line in module_of(path).calls
        if function in own
    ]
    assert writes == []


def test_progress_and_messages_go_through_the_console_and_not_from_call_to_call() -> None:
    handed = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in FILES
        for name, line in module_of(path).declared
        if name in ("say", "progress")
    ]
    assert handed == []


# No parameter travels in the environment; what sets it all the same, and for whom.
SETS_ENVIRON = {
    "sandbox/_worker.py": "in the sandbox: what a program's tests have set, for a call of the program",
    "scheduling/_ray_node.py": "of a process that Ray began: what one of our own gets when it is begun",
    "workflow/quiet.py": "what libraries read when they are imported, and can't be told otherwise",
}
CHANGES = {"setdefault", "update", "pop", "popitem", "clear", "__setitem__", "__delitem__"}


def _sets_environ(module: Module) -> bool:
    functions = {"os.putenv", "os.unsetenv", *(f"os.environ.{name}" for name in CHANGES)}
    called = any(function in functions for function, _ in module.calls)
    return called or any(name.startswith("os.environ") for name, _ in module.assigned)


def test_no_parameter_travels_in_the_environment() -> None:
    modules = {path.relative_to(PACKAGE).as_posix(): module_of(path) for path in FILES}
    assert {path for path, module in modules.items() if _sets_environ(module)} == SETS_ENVIRON.keys()
    # By its full name alone, so that the test above sees it.
    assert not [path for path, module in modules.items() if "environ" in module.names_of_os]


# Whatever else reads JSON reads what it has made itself a moment ago, or what must not import the package.
OWN_JSON = {
    "foreign.py": "the one way in",
    "gguf_files/_vocabulary.py": "the tokenizer in memory, as tokenizers writes it",
    "metrics/_declared.py": "what a plugin's metric has just returned, as it will be read back",
    "models/_digest.py": "the tokenizer in memory, as tokenizers writes it",
    "models/_peft_config.py": "what the child that matches patterns printed",
    "models/_tokenizer.py": "the tokenizer in memory, as tokenizers writes it",
    "runs/_store.py": "a record in memory, to compare it as it would be read back",
    "sandbox/_wire.py": "bounded frames, in a process that has nothing but the sandbox; checked there",
    "runs/_versions.py": "a record in memory, to hold it to the model that will read it",
    "seal.py": "a record in memory, as it will be read back",
    "training/_launch.py": "what processes of one training leave each other in a folder that nobody else may write to",
    "twins/_configs.py": "the config in memory, as transformers writes it",
    "twins/_tokenizers.py": "the tokenizer in memory, as tokenizers writes it",
}
PARSERS = {"json.load", "json.loads", "yaml.load", "yaml.safe_load", "json.JSONDecoder", "tomllib.load", "pickle.load"}


def test_json_that_somebody_else_may_have_written_is_read_by_one_module() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix(): function
        for path in FILES
        for function, _ in module_of(path).calls
        if function in PARSERS
    }
    strangers = {path: call for path, call in found.items() if path not in OWN_JSON}
    assert strangers == {}, "read it by slmbench.foreign and a model, or say in OWN_JSON why it is our own"
    assert OWN_JSON.keys() == found.keys()
