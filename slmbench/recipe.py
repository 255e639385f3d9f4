"""A recipe, found by name or path, with overrides from the command line held to the same schema."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from typing import Any

import yaml
from attrs import frozen

from slmbench.catalog import Catalog
from slmbench.errors import DeclarationError, Problem, did_you_mean
from slmbench.runs import canonical_sha256
from slmbench.schema import OptimSpec, RecipeSpec, SuiteSpec, parse
from slmbench.yamlfile import Document, Location, parse_yaml, read_yaml


@frozen
class Recipe:
    """A validated recipe."""

    name: str
    path: str
    spec: RecipeSpec

    def optim_of(self, adapter: str) -> OptimSpec:
        """The optimisation of one adapter: the recipe's, with the adapter's own number of steps."""
        steps = self.spec.adapters[adapter].steps
        return self.spec.optim if steps is None else self.spec.optim.model_copy(update={"steps": steps, "epochs": None})

    def digest_of(self, adapter: str) -> str:
        """sha256 of everything in the recipe that one adapter depends on: not of the others, nor of the evaluation."""
        settings = self.spec.model_dump(mode="json", exclude={"adapters", "evaluation", "summary", "source"})
        return canonical_sha256([settings, self.spec.adapters[adapter].model_dump(mode="json")])

    def evaluation_tasks(self, catalog: Catalog) -> list[str]:
        """The names of the tasks that base and adapters are scored on."""
        evaluation = self.spec.evaluation
        return list(evaluation.tasks) if evaluation.tasks else suite_tasks(catalog, str(evaluation.suite))


def load_recipe(name: str, catalog: Catalog, overrides: tuple[str, ...] = ()) -> Recipe:
    """A recipe of the registry, or of a YAML file given by path; overrides as `optim.lr=1e-4`.

    Raises UsageError or DeclarationError, with all of the file's and the overrides' problems.
    """
    if name.endswith((".yaml", ".yml")) and os.path.isfile(name):
        path, stem = name, os.path.splitext(os.path.basename(name))[0]
    else:
        path, stem = catalog.find("recipes", name), name
    document = read_yaml(path)
    spec = parse(RecipeSpec, document)
    if overrides:
        document = _override(document, overrides)
        spec = parse(RecipeSpec, document)
    problems = []
    known = catalog.files("tasks")
    for adapter, part in spec.adapters.items():
        for i, task in enumerate(part.tasks):
            if task not in known:
                location = ("adapters", adapter, "tasks", i)
                problems.append(document.problem(location, f"unknown task {task!r}{did_you_mean(task, known)}"))
    for i, task in enumerate(spec.evaluation.tasks or []):
        if task not in known:
            location = ("evaluation", "tasks", i)
            problems.append(document.problem(location, f"unknown task {task!r}{did_you_mean(task, known)}"))
    suites = catalog.files("suites")
    if spec.evaluation.suite is not None and spec.evaluation.suite not in suites:
        message = f"unknown suite {spec.evaluation.suite!r}{did_you_mean(spec.evaluation.suite, suites)}"
        problems.append(document.problem(("evaluation", "suite"), message))
    if problems:
        raise DeclarationError(problems)
    return Recipe(stem, path, spec)


def suite_tasks(catalog: Catalog, name: str) -> list[str]:
    """The names of a suite's tasks. Raises UsageError or DeclarationError."""
    return list(load_suite(catalog, name).tasks)


def load_suite(catalog: Catalog, name: str) -> SuiteSpec:
    """A suite, its tasks known to the catalog. Raises UsageError or DeclarationError."""
    document = read_yaml(catalog.find("suites", name))
    spec = parse(SuiteSpec, document)
    known = catalog.files("tasks")
    problems = [
        document.problem(("tasks", i), f"unknown task {task!r}{did_you_mean(task, known)}")
        for i, task in enumerate(spec.tasks)
        if task not in known
    ]
    if problems:
        raise DeclarationError(problems)
    return spec


def _override(document: Document, overrides: tuple[str, ...]) -> Document:
    data: Any = copy.deepcopy(document.data)
    problems: list[Problem] = []
    for text in overrides:
        key, equals, value = text.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            problems.append(Problem("--set", 0, 0, f"{text!r}: expected key=value, as in optim.lr=1e-4"))
            continue
        try:
            parsed = parse_yaml(value.encode(), f"--set {key}").data
        except DeclarationError as error:
            problems += error.problems
            continue
        inner = data
        for i, part in enumerate(parts[:-1]):
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                problems.append(Problem("--set", 0, 0, f"{text!r}: {'.'.join(parts[: i + 1])!r} holds no keys"))
                break
        else:
            inner[parts[-1]] = parsed
    if problems:
        raise DeclarationError(problems)
    # The file alone was sound: what is wrong now came from here, and no line of the file is to blame.
    return Document(f"--set {' '.join(overrides)}", data, dict.fromkeys(_locations(data), (0, 0)))


def _locations(data: Any, location: Location = ()) -> Iterator[Location]:
    yield location
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for part, value in inner:
        yield from _locations(value, (*location, part))


def dump_spec(spec: Any) -> str:
    """A spec as YAML, with every default written out."""
    return str(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110))


__all__ = ["Recipe", "dump_spec", "load_recipe", "load_suite", "suite_tasks"]
