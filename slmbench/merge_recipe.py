"""A merge recipe, found by name or path: everything it names is there, and fits, before anything is done."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from slmbench.catalog import Catalog
from slmbench.errors import DeclarationError, Problem, SlmbenchError, UsageError, did_you_mean
from slmbench.headers import own_headers
from slmbench.overrides import assign, assignments_of, told_of_overrides
from slmbench.recipe import Recipe, find_recipe, kind_of, load_recipe, suite_tasks, twin_cuts
from slmbench.schema import EvaluationSpec, MergeRecipeSpec, MergeSpec, parse, result_name
from slmbench.yamlfile import Document, Location, read_yaml

TWIN_SEARCH_ROWS = 4
TWIN_CANDIDATES = 2


@frozen
class Candidate:
    """One setting of a merge that is searched. chosen: place in the merge -> value; name: what they are, for people."""

    chosen: Mapping[Location, Any]
    name: str


@frozen
class MergeRecipe:
    """A validated merge recipe. train: the recipe whose adapters go in, with its overrides; None without one."""

    name: str
    path: str
    spec: MergeRecipeSpec
    train: Recipe | None = None

    @property
    def model(self) -> str:
        """The base's name, folder or hub id."""
        return self.spec.model or self._trained.spec.model

    @property
    def format(self) -> str:
        """The format of the evaluation."""
        return self.spec.format or (self.train.spec.format if self.train is not None else "plain")

    @property
    def evaluation(self) -> EvaluationSpec:
        """What everything is scored on."""
        return self.spec.evaluation or self._trained.spec.evaluation

    @property
    def _trained(self) -> Recipe:
        assert self.train is not None  # The schema holds it.
        return self.train

    @property
    def adapters(self) -> list[str]:
        """The adapters of the train recipe that go in or stand beside, each once."""
        going_in = [one.adapter for one in self.spec.inputs.values() if one.adapter is not None]
        return list(dict.fromkeys([*going_in, *self.spec.beside]))

    def inputs_of(self, merge: str) -> list[str]:
        """The names of the inputs that a merge takes."""
        return list(self.spec.merges[merge].inputs or self.spec.inputs)

    def input_path(self, name: str) -> str | None:
        """The folder of an input that is given by path, which is looked up beside the recipe's file; else None."""
        path = self.spec.inputs[name].path
        return None if path is None else os.path.normpath(os.path.join(os.path.dirname(self.path), path))

    def evaluation_tasks(self, catalog: Catalog) -> list[str]:
        """The names of the tasks that everything is scored on."""
        evaluation = self.evaluation
        return list(evaluation.tasks) if evaluation.tasks else suite_tasks(catalog, str(evaluation.suite))

    def candidates(self, merge: str) -> list[Candidate]:
        """All settings of a merge, in the order of its values; one without a name if nothing is searched."""
        axes = self.spec.merges[merge].axes(list(self.spec.inputs))
        found = []
        for values in itertools.product(*(values for _, values in axes)):
            chosen = {place: value for (place, _), value in zip(axes, values, strict=True)}
            said = (f"{place[-1]}={_short(value)}" for place, value in chosen.items())
            found.append(Candidate(chosen, ", ".join(said)))
        return found

    def settled(self, merge: str, candidate: Candidate) -> MergeSpec:
        """The merge with a candidate's values in place of what is searched."""
        data = self.spec.merges[merge].model_dump()
        names = self.inputs_of(merge)
        for place, value in candidate.chosen.items():
            if place == ("weights",):
                data["weights"] = value
            elif isinstance(data[place[0]], list):
                data[place[0]][names.index(str(place[1]))] = value
            else:
                data[place[0]][place[1]] = value
        return MergeSpec.model_validate(data)

    def for_twin(self, context_tokens: int | None = None) -> MergeRecipe:
        """The recipe, cut so that it runs on a tiny random model: few rows to search on, two values of each."""
        train = None if self.train is None else self.train.for_twin(context_tokens)
        data = self.spec.model_dump(mode="json")
        data["evaluation"] = self.evaluation.model_dump(mode="json") | twin_cuts(self.evaluation)
        data["search"] |= {"rows": min(TWIN_SEARCH_ROWS, self.spec.search.rows), "first_rows": 2}
        for merge in data["merges"].values():
            searched = [*merge["parameters"].values()]
            searched += merge["weights"].values() if isinstance(merge["weights"], dict) else merge["weights"] or []
            for value in searched:
                if isinstance(value, dict) and isinstance(value.get("search"), list):
                    value["search"] = value["search"][:TWIN_CANDIDATES]
                elif isinstance(value, dict) and isinstance(value.get("search"), dict) and "steps" in value["search"]:
                    value["search"]["steps"] = TWIN_CANDIDATES
            if isinstance(merge["weights"], dict) and "search" in merge["weights"]:
                merge["weights"] = {"search": {"simplex": TWIN_CANDIDATES}}
        return evolve(self, spec=parse(MergeRecipeSpec, Document(self.path, data, {})), train=train)

    def result_names(self, merge: str) -> dict[str, int | None]:
        """name of a result -> its seed, None for the recipe's own."""
        return {result_name(merge, seed): seed for seed in self.spec.merges[merge].seeds or (None,)}


def load_merge_recipe(name: str, catalog: Catalog, overrides: Sequence[str] = ()) -> MergeRecipe:
    """A merge recipe of the registry, or of a YAML file given by path; then overrides as `search.by=score`.

    Raises UsageError or DeclarationError, with all problems of the file, and of what it names.
    """
    path, stem = find_recipe(name, catalog)
    document = read_yaml(path)
    if kind_of(document) != "merge":
        raise UsageError(
            f"recipe {stem!r} trains adapters and merges none (it has no `kind: merge`): `slmbench run {stem}` trains "
            "and evaluates it"
        )
    recipe = _sound(stem, path, document, catalog)
    if not overrides:
        return recipe
    assignments = assignments_of(overrides, "--set")
    # The defaults of what the file leaves out are not written out: what one of two keys says rules the other out.
    data = copy.deepcopy(document.data)
    problems = []
    for text, key, value in assignments:
        if fault := assign(data, key.split("."), value):
            problems.append(Problem("--set", 0, 0, f"{text!r}: {fault}"))
    if problems:
        raise DeclarationError(problems)
    return _sound(stem, path, told_of_overrides(data, assignments, "--set"), catalog)


def _sound(name: str, path: str, document: Document, catalog: Catalog) -> MergeRecipe:
    spec = parse(MergeRecipeSpec, document)
    problems = list(_unknown_names(document, spec, catalog))
    for merge in spec.merges:
        problems += _method_problems(document, spec, merge, catalog)
    train, more = _train_recipe(document, spec, os.path.dirname(path), catalog)
    problems += more
    if train is not None:
        problems += _adapter_problems(document, spec, train)
    if problems:
        raise DeclarationError(sorted(problems, key=lambda problem: (problem.line, problem.column)))
    return MergeRecipe(name, path, spec, train)


def _train_recipe(
    document: Document, spec: MergeRecipeSpec, folder: str, catalog: Catalog
) -> tuple[Recipe | None, list[Problem]]:
    asked = spec.train
    if asked is None:
        return None, []
    beside = os.path.join(folder, asked.recipe)
    found = beside if asked.recipe.endswith((".yaml", ".yml")) and os.path.isfile(beside) else asked.recipe
    try:
        recipe = load_recipe(found, catalog, variant=asked.variant)
    except DeclarationError as error:  # It is told with its own file's lines.
        return None, error.problems
    except SlmbenchError as error:
        return None, [document.problem(("train", "recipe"), str(error))]
    try:
        return recipe.with_overrides(dict(_flat(asked.set)), catalog, blame="train.set"), []
    except DeclarationError as error:
        return None, [document.problem(("train", "set"), one.message) for one in error.problems]


def _flat(values: Mapping[str, object], before: str = "") -> Iterator[tuple[str, object]]:
    """Dotted path -> value, of keys inside keys too: `{optim: {steps: 5}}` leaves the other settings of `optim`."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _unknown_names(document: Document, spec: MergeRecipeSpec, catalog: Catalog) -> Iterator[Problem]:
    evaluation = spec.evaluation
    tasks, suites = catalog.files("tasks"), catalog.files("suites")
    named: list[tuple[Location, str]] = [
        (("evaluation", "tasks", i), task) for i, task in enumerate((evaluation and evaluation.tasks) or ())
    ]
    named += [(("search", "tasks", i), task) for i, task in enumerate(spec.search.tasks or ())]
    for place, task in named:
        if task not in tasks:
            yield document.problem(place, f"unknown task {task!r}{did_you_mean(task, tasks)}")
    if evaluation is not None and evaluation.suite is not None and evaluation.suite not in suites:
        said = f"unknown suite {evaluation.suite!r}{did_you_mean(evaluation.suite, suites)}"
        yield document.problem(("evaluation", "suite"), said)
    asked = [
        ("format", spec.format, ("format",)),
        ("engine", evaluation and evaluation.engine, ("evaluation", "engine")),
    ]
    for kind, name, at in asked:
        known = registered(kind, catalog)
        if name is not None and name not in known:
            yield document.problem(at, f"unknown {kind} {name!r}{did_you_mean(name, known)}")


def registered(kind: str, catalog: Catalog) -> list[str]:
    """The names of a kind of code, slmbench's own and plugins', read and not run."""
    return [header.name for header in (*own_headers(kind), *catalog.headers(kind))]


def _method_problems(document: Document, spec: MergeRecipeSpec, name: str, catalog: Catalog) -> Iterator[Problem]:
    merge, at = spec.merges[name], ("merges", name)
    known = registered("merge_method", catalog)
    if merge.method not in known:
        said = f"unknown merge_method {merge.method!r}{did_you_mean(merge.method, known)}"
        yield document.problem((*at, "method"), said)


def _adapter_problems(document: Document, spec: MergeRecipeSpec, train: Recipe) -> Iterator[Problem]:
    there = train.spec.adapters
    named: list[tuple[Location, str]] = [
        (("inputs", name, "adapter"), one.adapter) for name, one in spec.inputs.items() if one.adapter is not None
    ]
    named += [(("beside", i), name) for i, name in enumerate(spec.beside)]
    for place, name in named:
        if name not in there:
            said = f"recipe {train.name!r} has no adapter {name!r}{did_you_mean(name, there)}"
            yield document.problem(place, said)
    for name, merge in spec.merges.items():
        for seed in merge.seeds or (None,):
            if (made := result_name(name, seed)) in there:
                said = f"merge {made!r} would take the folder of an adapter of {train.name!r} of that name; rename it"
                yield document.problem(("merges", name), said)


def _short(value: object) -> str:
    if isinstance(value, dict):
        return "/".join(f"{part:g}" for part in value.values())
    if isinstance(value, list):
        return "[" + ", ".join(_short(part) for part in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
