"""A recipe as it was asked for, the tasks that it is scored on, and where its results go; twins included."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from slmbench.catalog import Catalog
from slmbench.console import say
from slmbench.errors import FileError, UsageError
from slmbench.paths import shown

if TYPE_CHECKING:
    from slmbench.merge_recipe import MergeRecipe
    from slmbench.models import LoadedModel
    from slmbench.recipe import Recipe
    from slmbench.schema import CotMode, EvaluationSpec
    from slmbench.task import Task

DEFAULT_OUT = "slmbench-out"
DEFAULT_TWIN_OUT = "slmbench-twin"


class RecipeOptions(NamedTuple):
    """The options that every command with a recipe has, as they were given."""

    overrides: tuple[str, ...] = ()
    variant: str | None = None
    twin: bool = False
    on_contamination: str | None = None
    memory_limit_gb: float | None = None
    data: str = "auto"
    resume: bool = True
    track: tuple[str, ...] = ()

    @property
    def data_mode(self) -> str:
        """Where rows come from, as `load_task` takes it."""
        return data_mode(self.data, self.twin)

    def recipe(self, name: str, catalog: Catalog) -> Recipe:
        """The recipe as these options want it. What --set says holds for a twin too, in place of the twin's cuts."""
        from slmbench.models import resolve_model
        from slmbench.recipe import load_recipe

        recipe = load_recipe(name, catalog, () if self.twin else self.overrides, variant=self.variant)
        if self.twin:
            initials = map(recipe.spec.initial_of, recipe.spec.adapters)
            for path in dict.fromkeys(one.path for one in initials if one is not None and one.path is not None):
                say(f"twin: init_adapter: {shown(path)} is the model's; the twin starts without it")
            model = recipe.with_overrides(self.overrides, catalog).spec.model
            context_tokens = resolve_model(model, catalog, twin=True).context_tokens
            recipe = recipe.for_twin(context_tokens).with_overrides(self.overrides, catalog)
        given = {"on_contamination": self.on_contamination, "memory_limit_gb": self.memory_limit_gb}
        return recipe.with_overrides({key: value for key, value in given.items() if value is not None})

    def training(self, name: str, catalog: Catalog) -> tuple[Recipe, list[str]]:
        """(the recipe that trains, its adapters that are wanted) of a recipe of either kind."""
        if not is_merge_recipe(name, catalog):
            recipe = self.recipe(name, catalog)
            return recipe, list(recipe.spec.adapters)
        merges = self.merge_recipe(name, catalog)
        if merges.train is None:
            inputs = ", ".join(str(one.path) for one in merges.spec.inputs.values())
            raise UsageError(f"merge recipe {merges.name!r} trains nothing: its inputs are folders ({inputs})")
        return merges.train, merges.adapters

    def merge_recipe(self, name: str, catalog: Catalog) -> MergeRecipe:
        """The merge recipe as these options want it, and the recipe whose adapters go in."""
        from slmbench.merge_recipe import load_merge_recipe
        from slmbench.models import resolve_model

        if self.variant is not None:
            raise UsageError("--variant: a merge recipe has none; its `train` may name one (--set train.variant=NAME)")
        recipe = load_merge_recipe(name, catalog, self.overrides)
        if self.twin:
            recipe = recipe.for_twin(resolve_model(recipe.model, catalog, twin=True).context_tokens)
        given = {"on_contamination": self.on_contamination, "memory_limit_gb": self.memory_limit_gb}
        return recipe.with_training({key: value for key, value in given.items() if value is not None})


def is_merge_recipe(name: str, catalog: Catalog) -> bool:
    """Whether a recipe, by name or path, is of kind merge. Raises UsageError or DeclarationError."""
    from slmbench.recipe import find_recipe, kind_of
    from slmbench.yamlfile import read_yaml

    return kind_of(read_yaml(find_recipe(name, catalog)[0])) == "merge"


def data_mode(data: str, twin: bool) -> str:
    """Where rows come from: a twin asks no network, and takes golden rows where this machine has no others."""
    return "twin" if twin and data == "auto" else data


Loaded = dict[tuple[str, str], "Task"]
"""(task, model) -> the task as it is declared: what several recipes share is read once."""


def evaluation_tasks(
    recipes: Sequence[Recipe], catalog: Catalog, options: RecipeOptions, loaded: Loaded | None = None
) -> list[list[Task]]:
    """For each recipe the tasks that it is scored on, bound as it wants them, their rows read; notices go to stderr.

    Before anything is trained, so that a broken task doesn't come to light after hours. loaded: read and filled.
    """
    from slmbench.task import evaluation_needs, left_out_notes

    loaded = {} if loaded is None else loaded
    found: list[list[Task]] = []
    told: set[str] = set()
    for recipe in recipes:
        tasks, notices = bound_tasks(recipe, catalog, options, loaded)
        for notice in notices:
            if notice not in told:
                say(f"note: {notice}")
            told.add(notice)
        found.append(tasks)
    _require_all_rows(recipes, found, catalog, options)
    for notice in left_out_notes(need for tasks in found for need in evaluation_needs(tasks)):
        say(f"note: {notice}")
    for recipe, tasks in zip(recipes, found, strict=True):
        for task in tasks:
            task.examples(task.spec.split, recipe.spec.evaluation.limit)
    if options.twin and recipes:
        say_golden(recipes[0], found[0], catalog)
    return found


def bound_tasks(
    recipe: Recipe, catalog: Catalog, options: RecipeOptions, loaded: Loaded
) -> tuple[list[Task], list[str]]:
    """(the tasks that a recipe is scored on, its prompts last, as it wants them; what to tell of that).

    loaded: read and filled.
    """
    spec = recipe.spec
    asked = AskedTasks(recipe.evaluation_tasks(catalog), spec.model, spec.evaluation, spec.shots, spec.cot)
    tasks, notices = bind_tasks(asked, catalog, options, loaded)
    if spec.prompts:
        from slmbench.task import prompts_task

        tasks.append(prompts_task(spec.prompts, catalog).with_max_tokens(spec.evaluation.max_tokens))
    return tasks, notices


class AskedTasks(NamedTuple):
    """Tasks by name, and how they are asked of a model. shots, cot: of the training, whose prompts these are."""

    names: Sequence[str]
    model: str
    evaluation: EvaluationSpec
    shots: int | None = None
    cot: CotMode | None = None


def bind_tasks(
    asked: AskedTasks, catalog: Catalog, options: RecipeOptions, loaded: Loaded | None = None
) -> tuple[list[Task], list[str]]:
    """(the tasks as they are asked; what to tell of that); no row is read. loaded: read and filled."""
    from slmbench.task import Settings, load_task

    loaded = {} if loaded is None else loaded
    evaluation, model = asked.evaluation, asked.model
    with bertscore_by_twin(model, catalog, options.twin):
        for name in asked.names:
            if (name, model) not in loaded:
                loaded[name, model] = load_task(name, catalog, data=options.data_mode)
    declared = [loaded[name, model] for name in asked.names]
    # The recipe's mode is that of its training; tasks that declare no chain of thought are evaluated as they are.
    cot = asked.cot if any(task.spec.cot for task in declared) else None
    metrics = tuple(evaluation.metrics) if evaluation.metrics else None
    settings = Settings(asked.shots, cot, evaluation.samples, metrics, evaluation.max_tokens, evaluation.perplexity)
    tasks, notices = settings.of(with_few_samples(declared) if options.twin else declared)
    return list(tasks), list(notices)


def _require_all_rows(
    recipes: Sequence[Recipe], evaluated: Sequence[Sequence[Task]], catalog: Catalog, options: RecipeOptions
) -> None:
    """Raises OfflineError for all rows at once that trainings and evaluations need and that aren't available."""
    from slmbench.task import Settings, evaluation_needs, load_task, require_rows, training_needs

    needs = [need for tasks in evaluated for need in evaluation_needs(tasks)]
    for spec in (recipe.spec for recipe in recipes):
        names = dict.fromkeys(name for adapter in spec.adapters.values() for name in adapter.tasks)
        tasks, _ = Settings(shots=spec.shots, cot=spec.cot).of(
            [load_task(name, catalog, data=options.data_mode) for name in names]
        )
        needs += training_needs(tasks)
    require_rows(needs)


def out_folder(out: str | None, default: str, twin: bool) -> str:
    """Where results go. A twin's go elsewhere unless told, so that they never lie among a real model's."""
    return out if out is not None else DEFAULT_TWIN_OUT if twin else default


def trained_folder(recipe: Recipe, name: str, out: str) -> str:
    """Where an adapter goes; with `method: full`, a whole model."""
    return os.path.join(out, "models" if recipe.spec.method == "full" else "adapters", name)


def refuse_to_replace(recipe: Recipe, names: Sequence[str], out: str) -> None:
    """Keeps a twin's training from taking the place of a real one. Raises UsageError."""
    from slmbench.runs import read_training

    for name in names:
        folder = trained_folder(recipe, name, out)
        try:
            record = read_training(folder)
        except (OSError, FileError):  # Whatever it is, a training sets it aside.
            continue
        model, said = record.model or "", record.settings.model_dump(mode="json", include={"rows"})
        # The embedded model is its own twin: what its adapter was cut to tells the two apart.
        if not model.endswith("-twin") and said != recipe.spec.model_dump(mode="json", include={"rows"}):
            raise UsageError(
                f"{shown(folder)} is an adapter of {model!r}, and a twin would replace it; give another --out"
            )


def say_golden(recipe: Recipe | None, evaluated: Sequence[Task], catalog: Catalog) -> None:
    """Says on stderr for which splits of a twin's tasks golden rows stand in, a recipe's training included."""
    from slmbench.datasets import local_source
    from slmbench.task import load_task

    adapters = recipe.spec.adapters.values() if recipe is not None else ()
    wanted = [(task, task.spec.split) for task in evaluated]
    for name in sorted({name for adapter in adapters for name in adapter.tasks}):
        task = load_task(name, catalog, data="twin")
        wanted.append((task, task.spec.train_split or ""))
    golden: dict[str, list[str]] = {}
    for task, split in wanted:
        there = split in task.dataset.spec.split_names
        if task.data == "twin" and there and local_source(task.dataset, split) is None:
            golden.setdefault(task.name, []).append(split)
    for name, splits in golden.items():
        missing = " and ".join(sorted(set(splits)))
        say(f"twin: {name}: golden rows stand in for {missing}, which this machine does not have")


def with_few_samples(tasks: Sequence[Task]) -> list[Task]:
    """A twin's tasks: those that draw many samples an item draw few; metrics that need more are left out, and told."""
    from slmbench.recipe import TWIN_SAMPLES

    made = [task.with_samples(min(TWIN_SAMPLES, task.spec.generation.samples)) for task in tasks]
    for before, after in zip(tasks, made, strict=True):
        gone = [scorer.name for scorer in before.scorers if scorer not in after.scorers]
        if gone:
            say(f"twin: {before.name}: {', '.join(gone)} left out, as a twin draws {TWIN_SAMPLES} samples per item")
    return made


def bertscore_by_twin(
    model: str | LoadedModel, catalog: Catalog, twin: bool
) -> contextlib.AbstractContextManager[None]:
    """Has BERTScore use the vectors of the twin itself, as a twin is for offline; a model that is set already stays.

    Around the loading of tasks: that is when their metrics look up which model to use.
    """
    from slmbench.metrics.bertscore import bertscore_model
    from slmbench.models import resolve_model

    if not twin or not isinstance(model, str):
        return contextlib.nullcontext()
    return bertscore_model(resolve_model(model, catalog, twin=True).location)
