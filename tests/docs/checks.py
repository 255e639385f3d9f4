"""What is checked of a block that isn't run: its commands, options and names, its keys, its imports and calls."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import click
import jsonschema
import yaml

from slmbench.catalog import Catalog
from slmbench.cli._group import build_group
from slmbench.cli.schema import DECLARED, json_schema, specs
from slmbench.errors import SlmbenchError
from slmbench.formats import format_names
from slmbench.merge_recipe import load_merge_recipe
from slmbench.models._source import refuse_unknown
from slmbench.paths import bundled_root
from slmbench.plugins import load_plugins
from slmbench.recipe import load_recipe
from slmbench.schema import parse
from slmbench.workflow.recipes import is_merge_recipe
from slmbench.yamlfile import parse_yaml
from tests.docs.blocks import TOP, Block, commands, parsed, parts

# Programs that no test starts, each with its reason.
NOT_STARTED = {
    "echo": "says something",
    "export": "sets a variable",
    "hf": "fetches from the hub",
    "jq": "reads what a run of slmbench left",
    "lm_eval": "another tool, on a real model",
    "mypy": "CI runs it: tox -e types",
    "pip": "fetches packages",
    "printf": "says something",
    "pre-commit": "works on a repository's hooks",
    "pytest": "this is it",
    "ruff": "CI runs it: tox -e lint",
    "set": "sets an option of the shell",
    "tox": "CI runs it: it is CI",
    "pipx": "fetches packages",
    "unzip": "unpacks what pip has fetched",
    "uv": "fetches packages",
    "uvx": "fetches packages",
}
# What a page's own declarations and plugins bring, or those of examples/; their blocks and tests hold them.
BROUGHT = {"formats": {"bracketed", "tagged", "ward_tagged"}, "tasks": {"sums"}, "metrics": {"digits"}}
# Parameters of commands that take names, and of which kind they are.
NAMES = {
    "tasks": "tasks",
    "task": "tasks",
    "suite": "suites",
    "unknown": "tasks",
    "format": "formats",
    "form": "formats",
}
ARGUMENTS = {"plan": "tasks", "check": "tasks", "data pull": "", "data export": "tasks", "data tokens": "tasks"}


@attrs.frozen
class Page:
    """What the blocks of a page have made so far, by their kind."""

    catalog: Catalog = attrs.field(
        factory=lambda: Catalog(
            [bundled_root(), *sorted(str(tasks.parent) for tasks in (TOP / "examples").glob("*/**/tasks"))]
        )
    )
    made: dict[str, set[str]] = attrs.field(factory=lambda: {kind: set(names) for kind, names in BROUGHT.items()})

    def make(self, kind: str, name: str) -> None:
        self.made.setdefault(kind, set()).add(name)

    def faults(self, block: Block) -> Iterator[str]:
        """What is wrong with a block. Raises KeyError for one in a language that no check is for."""
        if block.path:
            self._note(block.path)
        yield from CHECKS[block.language](self, block)

    def _note(self, path: str) -> None:
        self.make("files", path)
        if found := re.search(r"tasks/(\w+)/task.yaml|registry/(\w+)/([\w.-]+).yaml", path):
            self.make(found[2] or "tasks", found[1] or found[3])

    def _name_fault(self, kind: str, name: str) -> str | None:
        # NAME, TASK, [PATHS...]: whoever reads has their own.
        if name.isupper() or name in self.made.get(kind, ()):
            return None
        there = format_names(load_plugins(self.catalog)) if kind == "formats" else list(self.catalog.files(kind))
        return None if name in there else f"no {name!r} among {kind}"

    def shell(self, block: Block) -> Iterator[str]:
        text = re.sub(r"\[(\w+\.\.\.|--[\w-]+(?: \w+)?)\]", r"\1", block.text)
        for command in commands(text):
            for words in parts(command):
                for fault in self.program(words):
                    yield f"{fault}: {command}"

    def program(self, words: list[str]) -> Iterator[str]:
        """What is wrong with a program's name, options and arguments."""
        if words[0].startswith("$OFFLINE"):
            words = words[1:]
        if words[0] == "python" and words[1] == "-m":
            words = ["slmbench", *words[3:]] if words[2] == "slmbench" else words[2:]
            if words[0].startswith("slmbench."):
                if importlib.util.find_spec(words[0]) is None:
                    yield f"no module {words[0]}"
                return
        if words[0] == "python" and words[1].endswith(".py"):
            if words[1] not in self.made.get("files", ()) and not (TOP / words[1]).is_file():
                yield f"no file {words[1]}"
        elif words[0] == "slmbench":
            try:
                context, given = parsed(build_group(), words[1:])
                yield from self.names(context.command_path.removeprefix("slmbench "), given)
            except (click.UsageError, SlmbenchError) as error:
                yield str(error)
        elif words[0] not in NOT_STARTED:
            yield f"{words[0]!r} is in no list of programs (NOT_STARTED)"

    def names(self, command: str, given: dict[str, Any]) -> Iterator[str]:
        """What is named by a command's parameters and isn't there. Raises SlmbenchError, as of a recipe's settings."""
        if command == "new task":
            self.make("tasks", given["name"])
            self.make("recipes", given["name"])
        named = [(NAMES[key], str(value)) for key, value in given.items() if key in NAMES and isinstance(value, str)]
        named += [(ARGUMENTS[command], one) for one in given.get("names") or () if ARGUMENTS.get(command)]
        if command == "runs export":
            named = []
        if command == "plan":
            named = [("tasks", given["tasks"])]
        if command == "show":
            named.append((given["kind"] + "s", given["name"]))
        for kind, value in named:
            for name in value.split(","):
                if (kind not in ("metrics",) or name in self.made["metrics"]) and (
                    fault := self._name_fault(kind, name)
                ):
                    yield fault
        model = given.get("model")
        if isinstance(model, str) and not model.isupper() and not re.match(r"[./]|out/", model):
            refuse_unknown(model, self.catalog)
        recipe = given.get("recipe_name") or given.get("recipe")
        if (
            recipe
            and recipe not in self.made.get("recipes", ())
            and not recipe.startswith(".")
            and not recipe.isupper()
        ):
            yield from self.recipe(recipe, given)
        if command == "show" and given["kind"] == "recipe" and given["name"] not in self.made.get("recipes", ()):
            yield from self.recipe(given["name"], given)

    def recipe(self, name: str, given: dict[str, Any]) -> Iterator[str]:
        """What a recipe lacks that its command names. Raises SlmbenchError for settings that it can't have."""
        overrides = given.get("overrides") or ()
        if is_merge_recipe(name, self.catalog):
            loaded = load_merge_recipe(name, self.catalog, overrides)
            there = [*loaded.adapters, *loaded.spec.merges]
        else:
            there = list(load_recipe(name, self.catalog, overrides, variant=given.get("variant")).spec.adapters)
            for axis in given.get("over") or ():
                load_recipe(name, self.catalog, [re.sub(r"=([^\[,]+|\[.*?\]).*", r"=\1", axis)])
        for one in given.get("only") or ():
            if one not in there:
                yield f"{name} has no {one!r}"

    def yaml(self, block: Block) -> Iterator[str]:
        document = parse_yaml(block.text.encode(), block.place)
        held = document.data
        assert isinstance(held, dict)
        if "jobs" in held:  # A workflow of a forge.
            steps = [step for job in held["jobs"].values() for step in job["steps"]]
            for step in steps:
                if "run" in step:
                    yield from self.shell(attrs.evolve(block, text=step["run"]))
            return
        if "repos" in held:  # Hooks of pre-commit, with the arguments that they are given.
            there = {hook["id"]: hook for hook in yaml.safe_load((TOP / ".pre-commit-hooks.yaml").read_text())}
            for hook in (hook for repo in held["repos"] for hook in repo["hooks"]):
                yield from self.program([*there[hook["id"]]["entry"].split(), *hook.get("args", ())])
            return
        said = {}
        for kind in DECLARED:
            schema = json_schema(kind)
            # Some keys of a declaration, or a whole one: the right kind is the one that says the least against it.
            part = schema | {"required": []}
            said[kind] = [error.message for error in jsonschema.Draft202012Validator(part).iter_errors(held)]
            if not said[kind] and held.keys() >= set(schema.get("required", ("hub",))):
                try:  # What several keys say together, too.
                    parse(specs()[kind], document)
                except SlmbenchError as error:
                    said[kind] = [str(error)]
        if all(said.values()):
            kind = min(said, key=lambda kind: len(said[kind]))
            yield f"is of no kind of declaration; as {kind}: {said[kind]}"

    def python(self, block: Block) -> Iterator[str]:
        tree = ast.parse(block.text)
        known: dict[str, Any] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    known[alias.asname or alias.name] = _module(alias.name)
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    known[alias.asname or alias.name] = getattr(_module(node.module), alias.name)
        known.setdefault("slmbench", _module("slmbench"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield from _call_faults(node, known)

    def text(self, block: Block) -> Iterator[str]:
        """What is printed is code of nobody: a command isn't hidden in it."""
        for line in block.text.splitlines():
            if line.startswith(("slmbench ", "export ", "import ")) and not line.startswith("slmbench: "):
                yield f"a command in a block of text: {line}"


def _module(name: str) -> Any:
    """A module of ours; of another package only whether it is there, as importing it costs seconds."""
    if name.split(".")[0] == "slmbench":
        return importlib.import_module(name)
    assert importlib.util.find_spec(name.split(".")[0]) is not None, name
    return None


def _call_faults(node: ast.Call, known: dict[str, Any]) -> Iterator[str]:
    called = ast.unparse(node.func)
    first, *rest = called.split(".")
    if known.get(first) is None or not re.fullmatch(r"[\w.]+", called):
        return
    found = known[first]
    for name in rest:
        if not hasattr(found, name):
            yield f"{called}: no {name!r}"
            return
        found = getattr(found, name)
    if any(isinstance(argument, ast.Starred) for argument in node.args) or any(
        one.arg is None for one in node.keywords
    ):
        return
    try:
        inspect.signature(found).bind(*[None] * len(node.args), **{one.arg: None for one in node.keywords if one.arg})
    except TypeError as error:
        yield f"{called}: {error}"


def _loads(load: Callable[[str], object]) -> Callable[[Page, Block], Iterator[str]]:
    def check(_: Page, block: Block) -> Iterator[str]:
        load(block.text)
        yield from ()

    return check


CHECKS: dict[str, Callable[[Page, Block], Iterator[str]]] = {
    "sh": Page.shell,
    "bash": Page.shell,
    "yaml": Page.yaml,
    "python": Page.python,
    "json": _loads(json.loads),
    "toml": _loads(tomllib.loads),
    "text": Page.text,
}
