"""A recipe, found by name or path, with overrides from the command line held to the same schema."""

from __future__ import annotations

import copy
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml
from attrs import evolve, field, frozen
from pydantic import BaseModel

from slmbench.catalog import Catalog
from slmbench.errors import DeclarationError, Problem, UsageError, did_you_mean
from slmbench.headers import own_headers
from slmbench.initial import files_sha256, initial_folder
from slmbench.overrides import assign, assignments_of, locations, told_of_overrides, with_room
from slmbench.published import PublishedNumber, owners, published_numbers, published_problems, with_owners
from slmbench.runs import canonical_sha256
from slmbench.schema import EvaluationSpec, OptimSpec, RecipeSpec, RowsSpec, SuiteSpec, parse
from slmbench.values import JsonObject
from slmbench.yamlfile import Document, Location, read_yaml

# Neither changes a weight: what a recipe is called, how it is scored, shared out, watched, saved and guarded.
# What an adapter goes on from is told apart by what it holds.
_WITHOUT_EFFECT = {
    *("adapters", "checkpoint", "evaluation", "launch", "log_every_steps", "memory_limit_gb", "on_contamination"),
    *("init_adapter", "keep_optimizer", "kind", "optim", "prompts", "published", "source", "summary", "sweep"),
    "variants",
}
# Settings that weren't there always: where they say what held before, a digest is what it was.
_LATER = {"loss": "answer"}
KINDS = ("train", "merge")
_NOT_IN_VARIANTS = ("variants", "sweep", "kind", "published")
_NOT_SWEPT = (*_NOT_IN_VARIANTS, "summary", "source")
_LEAVES_OF = ("lora", "quantization", "optim", "mixing", "validation", "checkpoint", "launch", "evaluation")

TWIN_ROWS = 24
TWIN_STEPS = 6
TWIN_BATCH = 4
TWIN_EVALUATED = 8
TWIN_ANSWER_TOKENS = 16
TWIN_ITEMS = 2
TWIN_SAMPLES = 10


@frozen
class Recipe:
    """A validated recipe. variant: the one that was chosen, already applied.

    declared: what its file says, without a variant and with each, whatever else was set since; () if nobody read it.
    """

    name: str
    path: str
    spec: RecipeSpec
    variant: str | None = None
    declared: tuple[RecipeSpec, ...] = field(default=(), repr=False, eq=False)

    def spec_of(self, adapter: str) -> RecipeSpec:
        """The spec with what one adapter has of its own in `lora` and `optim`.

        What `--set`, a variant or a sweep gives for all takes the place of what adapters have.
        """
        return self.spec.for_adapter(adapter)

    def optim_of(self, adapter: str) -> OptimSpec:
        """The optimisation of one adapter."""
        return self.spec_of(adapter).optim

    def digest_of(self, adapter: str, *, seed: bool = True) -> str:
        """sha256 of everything in the recipe that one adapter's weights depend on; seed: its seed, too.

        Not of the other adapters, nor of the evaluation, nor of settings that only watch, save or guard a training.
        What `on_contamination` leaves of the rows is in the rows, which identify an adapter too.
        """
        spec = self.spec_of(adapter)
        left_out = _WITHOUT_EFFECT | ({"lora"} if spec.method == "full" else set()) | (set() if seed else {"seed"})
        settings = spec.model_dump(mode="json", exclude=left_out)
        settings = {key: value for key, value in settings.items() if _LATER.get(key, ...) != value}
        tasks = list(spec.adapters[adapter].tasks)
        if spec.mixing is not None:
            shares = settings["mixing"]["weights"]
            settings["mixing"]["weights"] = {task: shares[task] for task in tasks if task in shares}
        told = [settings, spec.optim.model_dump(mode="json"), tasks]
        if (initial := self.spec.initial_of(adapter)) is None:
            return canonical_sha256(told)
        first = initial.adapter
        before = files_sha256(initial_folder(initial, self.path)) if first is None else self.digest_of(first, seed=seed)
        return canonical_sha256([*told, initial.optimizer, before])

    @property
    def published(self) -> tuple[PublishedNumber, ...]:
        """The numbers that others gave for what it makes."""
        return published_numbers(self.spec.published, self.spec.model, self.makers)

    @property
    def makers(self) -> list[Recipe]:
        """The recipe as its file says it, without a variant and with each: what trains, and no published numbers."""
        alone: dict[str, Any] = {"published": [], "variants": {}, "sweep": {}}
        return [evolve(self, spec=spec.model_copy(update=alone)) for spec in self.declared or (self.spec,)]

    def evaluation_tasks(self, catalog: Catalog) -> list[str]:
        """The names of the tasks that base and adapters are scored on."""
        evaluation = self.spec.evaluation
        return list(evaluation.tasks) if evaluation.tasks else suite_tasks(catalog, str(evaluation.suite))

    def sweep_axes(self) -> dict[str, list[object]]:
        """What `sweep` declares: dotted path -> values, in the file's order; {} where there is none."""
        return {dotted_path(key): list(values) for key, values in self.spec.sweep.items()}

    def with_overrides(
        self,
        overrides: Sequence[str] | Mapping[str, object] = (),
        catalog: Catalog | None = None,
        *,
        blame: str = "--set",
    ) -> Recipe:
        """The recipe with some values replaced: `key=value` texts, or dotted path -> value.

        Held to the schema; with a catalog also the names of tasks and suites. A number of steps takes the place of a
        number of epochs, and the other way round. Raises DeclarationError, in which `blame` is where the values came
        from.
        """
        if not overrides:
            return self
        assignments = assignments_of(overrides, blame)
        document = Document(self.path, self.spec.model_dump(mode="json"), {})
        return evolve(self, spec=_sound(_override(document, assignments, blame), catalog))

    def for_twin(self, context_tokens: int | None = None) -> Recipe:
        """The recipe, cut so that it runs on a tiny random model in under a minute on two cores.

        Rows, steps, answers and sweeps are few and short; method, optimiser, packing, mixing, format, chain of
        thought, schedule, accumulation, validation and checkpoints stay as they are declared. context_tokens: of the
        twin; if it is given, rows may be twice as long, as the twin's small vocabulary makes more tokens of a text.
        """
        spec, twin = self.spec, self.spec.model_dump(mode="json")
        if isinstance(spec.rows, RowsSpec):
            twin["rows"]["n"] = min(TWIN_ROWS, spec.rows.n)
        else:
            twin["rows"] = _at_most(TWIN_ROWS, spec.rows)
        twin["max_tokens"] = min(2 * spec.max_tokens, context_tokens or spec.max_tokens)
        twin["log_every_steps"] = min(2, spec.log_every_steps)
        twin["checkpoint"]["every_steps"] = min(3, spec.checkpoint.every_steps)
        twin["optim"] = _twin_optim(twin["optim"])
        twin["optim"]["steps"] = _at_most(TWIN_STEPS, spec.optim.steps)
        for name, adapter in spec.adapters.items():
            own = twin["adapters"][name]
            if adapter.steps is not None:
                own["steps"] = min(TWIN_STEPS, adapter.steps)
            if adapter.optim is not None:
                own["optim"] = _twin_optim(own["optim"])
            if (initial := spec.initial_of(name)) is not None and initial.path is not None:
                # It is the model's, and no twin's.
                own["init_adapter"] = twin["init_adapter"] = None
                if self.optim_of(name).steps == 0:
                    own |= {
                        "steps": 1,
                        "optim": {key: value for key, value in (own["optim"] or {}).items() if key != "steps"},
                    }
        if spec.validation is not None:
            # Of a handful of golden rows, one can be spared.
            twin["validation"] = {"rows": 1, "every_steps": min(2, spec.validation.every_steps)}
        twin["evaluation"] |= twin_cuts(spec.evaluation)
        twin["sweep"] = {key: values[:2] for key, values in spec.sweep.items()}
        return evolve(self, spec=_sound(Document(self.path, twin, {}), None))


def _twin_optim(optim: JsonObject) -> JsonObject:
    """The keys of an `optim` that are there, as a twin has them: few steps instead of epochs, of few rows."""
    most = {"steps": TWIN_STEPS, "batch": TWIN_BATCH, "warmup_steps": 2, "plateau_patience": 0}
    cut = {key: min(most[key], value) for key, value in optim.items() if key in most and value is not None}
    if "optimizer" in optim:  # The same arithmetic; pages are a GPU's, and a twin runs anywhere.
        cut["optimizer"] = optim["optimizer"].removeprefix("paged_")
    return optim | cut | ({"epochs": None} if "epochs" in optim else {})


def load_recipe(name: str, catalog: Catalog, overrides: Sequence[str] = (), *, variant: str | None = None) -> Recipe:
    """A recipe of the registry, or of a YAML file given by path; then its variant; then overrides as `optim.lr=1e-4`.

    All variants and all values of the sweep are held to the schema too, whether they are asked for or not.
    Raises UsageError or DeclarationError, with all of the file's and the overrides' problems.
    """
    path, stem = find_recipe(name, catalog)
    document = with_owners(read_yaml(path))
    if kind_of(document) == "merge":
        raise UsageError(
            f"recipe {stem!r} is of kind merge: `slmbench merge {stem}` makes its merges, and `slmbench run {stem}` "
            "trains what goes in and evaluates all of it"
        )
    spec = _sound(document, None)
    problems = _unknown_names(document, spec, catalog)
    told = {(problem.line, problem.column) for problem in problems}  # Variants inherit them.
    variants, more = _variants(document, spec, catalog)
    more += _sweep_problems(document, spec, catalog)
    # Those of a variant that isn't sound, too: what is wrong with it is told at its own place.
    named = [spec.adapters, *(changes.get("adapters") for changes in spec.variants.values())]
    adapters = {name for one in named if isinstance(one, dict) for name in one}
    models = owners(spec.model, spec.variants)
    problems += published_problems(document, spec.published, catalog, adapters=adapters, own=models)
    problems += [problem for problem in more if (problem.line, problem.column) not in told]
    if problems:
        raise DeclarationError(problems)
    declared = (spec, *(changed for _, changed in variants.values()))
    if variant is not None:
        if variant not in variants:
            raise UsageError(f"recipe {stem!r} has no variant {variant!r}{did_you_mean(variant, variants)}")
        document, spec = variants[variant]
    if overrides:
        spec = _sound(_override(document, assignments_of(overrides, "--set"), "--set"), catalog)
    return Recipe(stem, path, spec, variant, declared)


def twin_cuts(evaluation: EvaluationSpec) -> JsonObject:
    """What a twin's evaluation has in place of a recipe's: few items, short answers."""
    return {
        "batch": TWIN_EVALUATED if evaluation.batch == "auto" else min(TWIN_EVALUATED, evaluation.batch),
        "limit": _at_most(TWIN_ITEMS, evaluation.limit),
        "max_tokens": _at_most(TWIN_ANSWER_TOKENS, evaluation.max_tokens),
        "samples": None if evaluation.samples is None else min(TWIN_SAMPLES, evaluation.samples),
    }


def find_recipe(name: str, catalog: Catalog) -> tuple[str, str]:
    """(YAML file, name) of a recipe of the registry, or of a file given by path. Raises UsageError."""
    if name.endswith((".yaml", ".yml")) and os.path.isfile(name):
        return name, os.path.splitext(os.path.basename(name))[0]
    if os.path.dirname(name) and name not in catalog.files("recipes"):
        raise UsageError(
            f"recipe {name!r}: there is no such YAML file; a name without a folder is one of `slmbench list recipes`"
        )
    return catalog.find("recipes", name), name


def kind_of(document: Document) -> str:
    """train or merge: which kind of recipe a file declares. Raises DeclarationError for another kind."""
    kind = document.data.get("kind", "train") if isinstance(document.data, dict) else "train"
    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS) if isinstance(kind, str) else ""
        raise DeclarationError([document.problem(("kind",), f"kind: expected 'train' or 'merge', got {kind!r}{hint}")])
    return str(kind)


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
    if problems := problems + _unknown(document, spec, catalog):
        raise DeclarationError(problems)
    return spec


def dotted_path(key: str) -> str:
    """A key of `--set`, a variant or a sweep as the dotted path that it stands for.

    `rank` stands for `lora.rank`, as no other setting is called so. What is ambiguous or unknown comes back as it is:
    the schema says what is wrong with it.
    """
    if "." in key or key in RecipeSpec.model_fields:
        return key
    blocks = ((block, _block(block)) for block in _LEAVES_OF)
    found = [f"{block}.{key}" for block, spec in blocks if key in spec.model_fields]
    return found[0] if len(found) == 1 else key


def dump_spec(spec: BaseModel, *, without: Collection[str] = ()) -> str:
    """A spec as YAML, with every default written out. without: keys at its top to leave out."""
    told = spec.model_dump(mode="json", exclude=set(without))
    return str(yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=110))


def _sound(document: Document, catalog: Catalog | None) -> RecipeSpec:
    spec = parse(RecipeSpec, document)
    problems = _unknown_names(document, spec, catalog) if catalog is not None else []
    if problems:
        raise DeclarationError(problems)
    return spec


def _unknown_names(document: Document, spec: RecipeSpec, catalog: Catalog) -> list[Problem]:
    known, suites = catalog.files("tasks"), catalog.files("suites")
    named: list[tuple[Location, str]] = [
        (("adapters", adapter, "tasks", i), task)
        for adapter, part in spec.adapters.items()
        for i, task in enumerate(part.tasks)
    ]
    named += [(("evaluation", "tasks", i), task) for i, task in enumerate(spec.evaluation.tasks or [])]
    problems = [
        document.problem(location, f"unknown task {task!r}{did_you_mean(task, known)}")
        for location, task in named
        if task not in known
    ]
    suite = spec.evaluation.suite
    if suite is not None and suite not in suites:
        problems.append(
            document.problem(("evaluation", "suite"), f"unknown suite {suite!r}{did_you_mean(suite, suites)}")
        )
    return problems + _unknown(document, spec, catalog)


def _unknown(document: Document, spec: RecipeSpec | SuiteSpec, catalog: Catalog) -> list[Problem]:
    """What is wrong with names of formats and engines; plugins are read for them, and not run."""
    asked: list[tuple[str, str | None, tuple[str, ...]]] = [("format", spec.format, ("format",))]
    if isinstance(spec, RecipeSpec):
        asked.append(("engine", spec.evaluation.engine, ("evaluation", "engine")))
    problems = []
    for kind, name, key in asked:
        own = [header.name for header in own_headers(kind)]
        if name is None or name in own:
            continue
        known = [*own, *(header.name for header in catalog.headers(kind))]
        if name not in known:
            problems.append(document.problem(key, f"unknown {kind} {name!r}{did_you_mean(name, known)}"))
    return problems


def _variants(
    document: Document, spec: RecipeSpec, catalog: Catalog
) -> tuple[dict[str, tuple[Document, RecipeSpec]], list[Problem]]:
    """name -> the document and spec with the variant applied, and what is wrong with those that don't fit."""
    found: dict[str, tuple[Document, RecipeSpec]] = {}
    problems: list[Problem] = []
    for name, changes in spec.variants.items():
        place: Location = ("variants", name)
        if not changes:
            problems.append(document.problem(place, f"variant {name!r} changes nothing"))
            continue
        try:
            changed = _with_room(document, changes)
            for key, value in changes.items():
                if dotted_path(key).split(".")[0] in _NOT_IN_VARIANTS:
                    raise DeclarationError([document.problem((*place, key), f"a variant can't change {key!r}")])
                changed = _changed(changed, key, value, (*place, key))
            found[name] = changed, _sound(changed, catalog)
        except DeclarationError as error:
            problems += [_told_of(problem, f"variant {name!r}") for problem in error.problems]
    return found, problems


def _sweep_problems(document: Document, spec: RecipeSpec, catalog: Catalog) -> list[Problem]:
    problems: list[Problem] = []
    first: dict[str, str] = {}
    for key, values in spec.sweep.items():
        place: Location = ("sweep", key)
        path = dotted_path(key)
        if fault := no_setting(key):
            problems.append(document.problem(place, f"sweep: {fault}"))
            continue
        if path.split(".")[0] in _NOT_SWEPT:
            problems.append(document.problem(place, f"sweep: {key!r} changes nothing of what is trained or scored"))
            continue
        if first.setdefault(path, key) != key:
            problems.append(document.problem(place, f"sweep: {key!r} and {first[path]!r} are the same setting"))
        for i, value in enumerate(values):
            if any(value == other and type(value) is type(other) for other in values[:i]):
                problems.append(document.problem((*place, i), f"sweep: {key}: {value!r} is listed twice"))
                continue
            try:
                _sound(_changed(_with_room(document, {key: value}), key, value, (*place, i)), catalog)
            except DeclarationError as error:
                problems += [_told_of(problem, f"sweep, {key}={value!r}") for problem in error.problems]
    return problems


def _told_of(problem: Problem, what: str) -> Problem:
    return Problem(problem.path, problem.line, problem.column, f"{what}: {problem.message}")


def _changed(document: Document, key: str, value: object, place: Location) -> Document:
    """The document with one value replaced by another one of the same file, which stands at `place`."""
    path = tuple(dotted_path(key).split("."))
    data = copy.deepcopy(document.data)
    fault = no_setting(key) or assign(data, path, copy.deepcopy(value))
    if fault is not None:
        raise DeclarationError([document.problem(place, fault)])
    # Faults of what was put in are faults of the line that says so.
    kept = {location: mark for location, mark in document.marks.items() if location[: len(path)] != path}
    mark = document.marks.get(place, (1, 1))
    blocks = {path[:i]: mark for i in range(1, len(path))}  # Those that the file lacks begin here too.
    return Document(document.path, data, blocks | kept | {(*path, *rest): mark for rest in locations(value)})


def no_setting(key: str) -> str | None:
    """What is wrong with a key without dots that stands for no setting, or for several; None if it is sound."""
    path = dotted_path(key)
    if "." in path or path in RecipeSpec.model_fields:
        return None
    several = [f"{block}.{key}" for block in _LEAVES_OF if key in _block(block).model_fields]
    if several:
        return f"{key!r} could be {' or '.join(several)}; say which"
    known = {*RecipeSpec.model_fields, *(name for block in _LEAVES_OF for name in _block(block).model_fields)}
    return f"unknown key {key!r}{did_you_mean(key, known)}"


def _with_room(document: Document, changes: Mapping[str, object]) -> Document:
    return with_room(document, {dotted_path(key): value for key, value in changes.items()})


def _override(document: Document, assignments: Sequence[tuple[str, str, object]], blame: str) -> Document:
    data = _with_room(document, {key: value for _, key, value in assignments}).data
    problems: list[Problem] = []
    for text, key, value in assignments:
        fault = no_setting(key) or assign(data, dotted_path(key).split("."), value)
        if fault is not None:
            problems.append(Problem(blame, 0, 0, f"{text!r}: {fault}"))
    if problems:
        raise DeclarationError(problems)
    return told_of_overrides(data, assignments, blame)


def _block(name: str) -> type[BaseModel]:
    """The spec that a recipe's field holds, whether or not it may be left out."""
    annotation: Any = RecipeSpec.model_fields[name].annotation
    members = [annotation, *getattr(annotation, "__args__", ())]
    return next(one for one in members if isinstance(one, type) and issubclass(one, BaseModel))


def _at_most(limit: int, given: int | None) -> int:
    return limit if given is None else min(limit, given)


__all__ = [
    "Recipe",
    "dotted_path",
    "dump_spec",
    "find_recipe",
    "kind_of",
    "load_recipe",
    "load_suite",
    "no_setting",
    "suite_tasks",
    "twin_cuts",
]
