"""A merge recipe's merges: what goes in, what is searched, and what comes out, as plans for `slmbench.merging`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from attrs import field, frozen

from slmbench.catalog import Catalog
from slmbench.console import phase
from slmbench.errors import FileError, UsageError, did_you_mean
from slmbench.merge_recipe import MergeRecipe
from slmbench.merging import MergeInput, MergePlan, MergeResult, load_method, merge, merge_problems
from slmbench.models import ModelSource, is_whole_model, resolve_model
from slmbench.paths import shown
from slmbench.runs import TrainingRecord, read_training
from slmbench.schema import MergeSpec
from slmbench.workflow.recipes import AskedTasks, RecipeOptions, trained_folder


@frozen(kw_only=True)
class MergeAsked:
    """What is asked for. only: these of the recipe's merges. out: in whose `adapters/` the inputs lie, too."""

    recipe: str
    out: str
    options: RecipeOptions = field(factory=RecipeOptions)
    only: tuple[str, ...] = ()


@frozen(kw_only=True)
class ReadyMerges:
    """A sound recipe, and where its inputs are. folders: input -> its folder; merges: those asked for."""

    asked: MergeAsked
    recipe: MergeRecipe
    base: ModelSource
    merges: tuple[str, ...]
    folders: Mapping[str, str]
    catalog: Catalog = field(repr=False)

    def plan(
        self, merge: str, settled: MergeSpec, name: str, seed: int | None, inputs: Sequence[str] = ()
    ) -> MergePlan:
        """The plan of one result. settled: without anything that is searched. inputs: in place of the merge's own."""
        every = self.recipe.inputs_of(merge)
        names = list(inputs or every)
        weights = settled.weights
        if isinstance(weights, list):
            weights = dict(zip(every, weights, strict=True))
        lora = settled.result == "lora" or (settled.result is None and self.makes_lora(settled, names))
        return MergePlan(
            name=name,
            base=self.base,
            inputs=tuple(MergeInput(one, self.folders[one]) for one in names),
            method=settled.method,
            weights=weights,
            parameters=settled.parameters,
            result="lora" if lora else "model",
            rank=(settled.rank or "full") if lora else None,
            dtype=self.recipe.spec.dtype,
            seed=self.recipe.spec.seed if seed is None else seed,
            out=self.asked.out,
        )

    def makes_lora(self, settled: MergeSpec, inputs: Sequence[str]) -> bool:
        """Whether a LoRA loses nothing: adapters alone go in, by a method that keeps them of low rank."""
        if any(is_whole_model(self.folders[one]) for one in inputs):
            return False
        facts = load_method(settled.method, self.catalog).facts
        return settled.rank is not None or bool(facts.get("linear") or facts.get("space") == "adapters")

    def trainings(self, inputs: Sequence[str]) -> dict[str, TrainingRecord | None]:
        """input -> the record of its training; None of one that was made elsewhere."""
        found: dict[str, TrainingRecord | None] = {}
        for name in inputs:
            try:
                found[name] = read_training(self.folders[name])
            except FileNotFoundError:
                found[name] = None
        return found


@frozen
class MadeMerge:
    """A result. merge: its name in the recipe; seed: of several, None otherwise."""

    merge: str
    seed: int | None
    result: MergeResult

    @property
    def folder(self) -> str:
        return self.result.folder


def ready_merges(asked: MergeAsked, catalog: Catalog, *, trained: bool = True) -> ReadyMerges:
    """Everything that can be refused before a tensor is read. trained: whether the adapters have to be there already.

    Raises UsageError, DeclarationError or FileError.
    """
    recipe = asked.options.merge_recipe(asked.recipe, catalog)
    for name in asked.only:
        if name not in recipe.spec.merges:
            raise UsageError(f"recipe {recipe.name!r} has no merge {name!r}{did_you_mean(name, recipe.spec.merges)}")
    merges = [name for name in recipe.spec.merges if name in asked.only or not asked.only]
    folders = {name: _folder(recipe, name, asked.out) for name in recipe.spec.inputs}
    used = {name for merge in merges for name in recipe.inputs_of(merge)}
    problems = [said for name in folders if name in used for said in _faults(recipe, name, folders[name])]
    missing = missing_adapters(recipe, _adapters_of(recipe, used), asked.out)
    if missing and trained:
        problems += [f"adapter {name!r} {why}" for name, why in missing.items()]
        command = train_command(asked)
        problems.append(f"this trains what is missing: {command}")
    if problems:
        raise UsageError("\n".join(problems))
    base = resolve_model(recipe.model, catalog, twin=asked.options.twin)
    return ReadyMerges(asked=asked, recipe=recipe, base=base, merges=tuple(merges), folders=folders, catalog=catalog)


def train_command(asked: MergeAsked) -> str:
    """The command line that trains a merge recipe's adapters."""
    words = ["slmbench train", asked.recipe]
    words += [f"--set {one}" for one in asked.options.overrides]
    words += ["--twin"] * asked.options.twin + [f"--data {asked.options.data}"] * (asked.options.data != "auto")
    return " ".join([*words, f"--out {shown(asked.out)}"])


def make_merges(ready: ReadyMerges, catalog: Catalog) -> list[MadeMerge]:
    """All merges that are asked for, searched where something is searched; those that are there already are kept."""
    from slmbench.workflow.merge_search import Search

    _refuse_unfit(ready, catalog)
    search = Search(ready, catalog)
    made = []
    for name in ready.merges:
        found = search.of(name)
        for result, seed in ready.recipe.result_names(name).items():
            plan = ready.plan(name, found.settled, result, seed, found.inputs)
            with phase(f"merge {result}"):
                made.append(MadeMerge(name, seed, merge(plan, catalog, search=found.log)))
    return made


def _refuse_unfit(ready: ReadyMerges, catalog: Catalog) -> None:
    """Raises UsageError for all that can't be merged: the last merge of a recipe needn't wait for the first."""
    problems: list[str] = []
    for name in ready.merges:
        settled = ready.recipe.settled(name, ready.recipe.candidates(name)[0])
        result, seed = next(iter(ready.recipe.result_names(name).items()))
        problems += merge_problems(ready.plan(name, settled, result, seed), catalog)
    if problems:
        raise UsageError("\n".join(problems))


def missing_adapters(recipe: MergeRecipe, names: Sequence[str], out: str) -> dict[str, str]:
    """adapter of the train recipe -> why it has to be trained first."""
    train = recipe.train
    found: dict[str, str] = {}
    if train is None:
        return found
    for name in names:
        folder = trained_folder(train, name, out)
        try:
            record = read_training(folder)
        except FileNotFoundError:
            found[name] = f"is not there: {shown(folder)}"
        except FileError as error:
            found[name] = f"can't be told apart from others: {error}"
        else:
            if record.recipe_sha256 != train.digest_of(name):
                found[name] = f"was trained with other settings than {recipe.name!r} says: {shown(folder)}"
    return found


def asked_tasks(recipe: MergeRecipe, names: Sequence[str]) -> AskedTasks:
    """Tasks as the recipe asks them of base, inputs and results alike: as in the training."""
    train = recipe.train.spec if recipe.train is not None else None
    if train is None:
        return AskedTasks(names, recipe.model, recipe.evaluation)
    return AskedTasks(names, recipe.model, recipe.evaluation, train.shots, train.cot)


def _folder(recipe: MergeRecipe, name: str, out: str) -> str:
    path, adapter = recipe.input_path(name), recipe.spec.inputs[name].adapter
    if path is not None:
        return path
    assert recipe.train is not None and adapter is not None
    return trained_folder(recipe.train, adapter, out)


def _adapters_of(recipe: MergeRecipe, inputs: set[str]) -> list[str]:
    return [one.adapter for name, one in recipe.spec.inputs.items() if name in inputs and one.adapter is not None]


def _faults(recipe: MergeRecipe, name: str, folder: str) -> list[str]:
    if recipe.spec.inputs[name].path is None or os.path.isdir(folder):
        return []
    return [f"input {name!r}: there is no folder {shown(folder)}; `path` is looked up beside {shown(recipe.path)}"]
