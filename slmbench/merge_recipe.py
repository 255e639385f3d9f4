"""A merge recipe, found by name or path: everything it names is there, and fits, before anything is done."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import evolve, field, frozen

from slmbench.catalog import Catalog
from slmbench.errors import DeclarationError, Problem, SlmbenchError, UsageError, did_you_mean
from slmbench.headers import own_headers
from slmbench.overrides import assign, assignments_of, told_of_overrides
from slmbench.published import PublishedNumber, published_numbers, published_problems
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
    """A validated merge recipe. train: the recipe whose adapters go in, with its overrides; None without one.

    declared: the recipe as its file says it, if something was set since.
    """

    name: str
    path: str
    spec: MergeRecipeSpec
    train: Recipe | None = None
    declared: MergeRecipe | None = field(default=None, repr=False, eq=False)

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
        """What everything is scored on. Raises UsageError if nothing says it, as a merge alone needs none."""
        if self.spec.evaluation is None and self.train is None:
            raise UsageError(f"recipe {self.name!r} says nothing of what is scored: declare `evaluation`")
        return self.spec.evaluation or self._trained.spec.evaluation

    @property
    def published(self) -> tuple[PublishedNumber, ...]:
        """The numbers that others gave for what it makes, and for what its train recipe does."""
        entries = [*self.spec.published, *(self.train.spec.published if self.train is not None else ())]
        told = self.declared or self
        makers = [] if told.train is None else [*told.train.makers, told.train]
        merged = {
            result_name(name, seed): (merge.method, tuple(told.inputs_of(name)))
            for name, merge in told.spec.merges.items()
            for seed in merge.seeds or (None,)
        }
        return published_numbers(entries, self.model, makers, merged)

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
            block = data[str(place[0])]
            if place == ("weights",):
                data["weights"] = value
            elif isinstance(block, list):
                block[names.index(str(place[1]))] = value
            else:
                block[place[1]] = value
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
                merge["weights"] = {"search": {"simplex": 1}}
        return evolve(self, spec=parse(MergeRecipeSpec, Document(self.path, data, {})), train=train)

    def with_training(self, settings: Mapping[str, object]) -> MergeRecipe:
        """The recipe with settings of its training replaced, as the command line gives them."""
        if not settings or self.train is None:
            return self
        return evolve(self, train=self.train.with_overrides(settings, blame="the command line"))

    def with_evaluation(self, settings: Mapping[str, object]) -> MergeRecipe:
        """The recipe with settings of its evaluation replaced, as the command line gives them."""
        if not settings:
            return self
        evaluation = EvaluationSpec.model_validate({**self.evaluation.model_dump(), **settings})
        return evolve(self, spec=self.spec.model_copy(update={"evaluation": evaluation}))

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
    if isinstance(data.get("train"), str):
        data["train"] = {"recipe": data["train"]}
    problems = []
    for text, key, value in assignments:
        if fault := assign(data, _path_of(key), value):
            problems.append(Problem("--set", 0, 0, f"{text!r}: {fault}"))
    if problems:
        raise DeclarationError(problems)
    return evolve(_sound(stem, path, told_of_overrides(data, assignments, "--set"), catalog), declared=recipe)


def _path_of(key: str) -> list[str]:
    """The places of a dotted key; what is set in the recipe that trains is one key of that recipe."""
    before, found, rest = key.partition("train.set.")
    return ["train", "set", rest] if found and not before else key.split(".")


def _sound(name: str, path: str, document: Document, catalog: Catalog) -> MergeRecipe:
    spec = parse(MergeRecipeSpec, document)
    problems = list(_unknown_names(document, spec, catalog))
    for merge in spec.merges:
        problems += _method_problems(document, spec, merge, catalog)
    train, more = _train_recipe(document, spec, os.path.dirname(path), catalog)
    problems += more
    if train is not None:
        problems += _adapter_problems(document, spec, train)
    results = [result_name(merge, seed) for merge, one in spec.merges.items() for seed in one.seeds or (None,)]
    names = {*spec.inputs, *spec.beside, *results, *(train.spec.adapters if train is not None else ())}
    own = {model for model in (spec.model, None if train is None else train.spec.model) if model is not None}
    problems += published_problems(document, spec.published, catalog, adapters=names, own=own)
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
    asked: list[tuple[str, str | None, Location]] = [
        ("format", spec.format, ("format",)),
        ("engine", None if evaluation is None else evaluation.engine, ("evaluation", "engine")),
    ]
    for kind, name, at in asked:
        known = registered(kind, catalog)
        if name is not None and name not in known:
            yield document.problem(at, f"unknown {kind} {name!r}{did_you_mean(name, known)}")


def registered(kind: str, catalog: Catalog) -> list[str]:
    """The names of a kind of code, slmbench's own and plugins', read and not run."""
    return [header.name for header in (*own_headers(kind), *catalog.headers(kind))]


def _method_problems(document: Document, spec: MergeRecipeSpec, name: str, catalog: Catalog) -> Iterator[Problem]:
    """What is wrong with a merge by its method's own rules: every value of a search, a gradient or a filter."""
    from slmbench.merging import check_inputs, check_parameters, is_stochastic, load_method

    merge, at = spec.merges[name], ("merges", name)
    try:
        method = load_method(merge.method, catalog)
    except SlmbenchError as error:
        yield document.problem((*at, "method"), str(error))
        return
    for parameter, value in merge.parameters.items():
        told: set[str] = set()
        for place, one in _numbers(value, (*at, "parameters", parameter)):
            for said in check_parameters(method, {parameter: one}):
                if said not in told:  # What is wrong with the name is so of every value.
                    yield document.problem(place, said)
                told.add(said)
    # Sums of weights are told where all of them are numbers: those of gradients differ by tensor.
    count = len(merge.inputs or spec.inputs)
    given = list(merge.weights.values()) if isinstance(merge.weights, dict) else merge.weights or []
    plain = len(given) == count and all(isinstance(one, int | float) for one in given)
    for said in check_inputs(method, count, given if plain else [1.0] * count, has_base=True):
        yield document.problem((*at, "method"), said)
    if merge.greedy and not method.facts.get("average"):
        said = f"a greedy soup is an average of what it takes, and {merge.method} makes none; take soup"
        yield document.problem((*at, "greedy"), said)
    if merge.seeds is not None and not is_stochastic(method):
        yield document.problem((*at, "seeds"), f"{merge.method} draws nothing, so that all seeds give the same")


def _numbers(value: Any, at: Location) -> Iterator[tuple[Location, object]]:
    """Place and value of every single value that a setting stands for."""
    if isinstance(value, dict) and "search" in value:
        searched = value["search"]
        if isinstance(searched, dict):
            yield from (((*at, "search", end), float(searched[end])) for end in ("from", "to"))
        else:
            for i, one in enumerate(searched):
                yield from _numbers(one, (*at, "search", i))
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _numbers(one, (*at, key))
    elif isinstance(value, list):
        for i, one in enumerate(value):
            yield from _numbers(one["value"], (*at, i, "value")) if isinstance(one, dict) else [((*at, i), one)]
    else:
        yield at, value


def _adapter_problems(document: Document, spec: MergeRecipeSpec, train: Recipe) -> Iterator[Problem]:
    there = train.spec.adapters
    listed = isinstance(document.data["inputs"], list)
    named: list[tuple[Location, str]] = [
        (("inputs", i) if listed else ("inputs", name, "adapter"), one.adapter)
        for i, (name, one) in enumerate(spec.inputs.items())
        if one.adapter is not None
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
        return "/".join(f"{part:.3g}" for part in value.values())
    if isinstance(value, list):
        return "[" + ", ".join(_short(part) for part in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
