"""The adapter that a training goes on from: which one it is, whether it can be, its weights in a new one's place."""

from __future__ import annotations

import os
from collections.abc import Iterator

from attrs import frozen

from slmbench.console import say
from slmbench.errors import UsageError
from slmbench.initial import initial_folder
from slmbench.models import AdapterInfo, LoadedModel, ModelSource, judge_base, read_adapter
from slmbench.paths import shown
from slmbench.recipe import Recipe
from slmbench.runs import TrainedFrom
from slmbench.schema import RecipeSpec
from slmbench.training._kept import KeptOptimizer, read_kept
from slmbench.training._methods import ADAPTER_WEIGHTS, put_weights
from slmbench.training._shapes import adapted_layers, empty_model
from slmbench.values import Config, Model

_FIRST, _LAST = "base_model.model.", ".lora_A.weight"
_BESIDE = ("modules_to_save", "rank_pattern", "alpha_pattern", "layers_to_transform", "trainable_token_indices")
"""Settings of peft's that make an adapter of parts which a training here doesn't have."""


@frozen(eq=False)
class FirstAdapter:
    """What a training goes on from. kept: its optimiser's state, None if that isn't gone on with."""

    info: AdapterInfo
    kept: KeptOptimizer | None = None

    @property
    def identity(self) -> list[str | None]:
        """What a result depends on."""
        return [self.info.sha256, None if self.kept is None else self.kept.sha256]

    def as_record(self) -> TrainedFrom:
        """What the record says of it."""
        before, tasks = self.info.record, dict.fromkeys(self.info.record.tasks)
        if before.init_adapter is not None:
            tasks |= dict.fromkeys(before.init_adapter.tasks)
        return TrainedFrom(
            folder=os.path.abspath(self.info.folder),
            sha256=self.info.sha256,
            optimizer=self.kept is not None,
            tasks=list(tasks),
        )

    def put_on(self, model: Model, loaded: LoadedModel) -> None:
        """Puts its weights in the place of a new adapter's. Raises UsageError if it is of another base, or misfits."""
        judged = judge_base(self.info, loaded)
        if judged.refusal:
            said = judged.refusal.partition("; ")[0]
            raise UsageError(f"init_adapter: {shown(self.info.folder)} {said}; train on from an adapter of this base")
        if judged.remark:
            say(f"note: init_adapter: {judged.remark}")
        try:
            put_weights(model, os.path.join(self.info.folder, ADAPTER_WEIGHTS))
        except UsageError as error:
            raise UsageError(f"init_adapter: {shown(self.info.folder)}: {error}") from error


def first_adapter(
    recipe: Recipe, name: str, place: str, source: ModelSource, config: Config, *, planned: bool = False
) -> FirstAdapter | None:
    """What a training goes on from; None if from nothing.

    place: where this recipe's adapters are. planned: one of the recipe that isn't there yet is none, as in a dry run.
    Raises UsageError, a line for each reason why it can't be, with the way out; FileError for a damaged one.
    """
    spec = recipe.spec_of(name)
    initial = recipe.spec.initial_of(name)
    if initial is None:
        return None
    folder = initial_folder(initial, recipe.path, place)
    try:
        info = read_adapter(folder)
    except UsageError as error:
        if initial.adapter is not None:
            if planned:
                return None
            raise UsageError(f"init_adapter: {initial.adapter!r} is to be trained first: {error}") from error
        beside = "" if os.path.isabs(str(initial.path)) else f"; it is looked up beside {shown(recipe.path)}, then here"
        raise UsageError(f"init_adapter: {error}{beside}") from error
    if initial.adapter is not None and info.record.recipe_sha256 != recipe.digest_of(initial.adapter):
        if planned:
            return None
        raise UsageError(
            f"init_adapter: {shown(folder)} was trained with other settings than the recipe has for "
            f"{initial.adapter!r}; train that first"
        )
    if faults := [*_misfits(info, spec, source, config)]:
        raise UsageError("\n".join(f"init_adapter: {shown(folder)}: {fault}" for fault in faults))
    return FirstAdapter(info, read_kept(folder, info.record, spec.optim) if initial.optimizer else None)


def _misfits(info: AdapterInfo, spec: RecipeSpec, source: ModelSource, config: Config) -> Iterator[str]:
    """Why a training of this recipe can't go on from it."""
    said, lora = info.config, spec.lora
    if info.kind != "LORA":
        yield f"is of kind {info.kind}, and LoRA alone is trained here; train from nothing (`--set init_adapter=null`)"
        return
    if beside := [key for key in _BESIDE if getattr(said, key)]:
        yield f"has {' and '.join(beside)} beside its matrices, which a training here hasn't; give a plain one"
    told = {
        "rank": (said.r, lora.rank),
        "alpha": (said.lora_alpha, lora.alpha),
        "rslora": (bool(said.use_rslora), lora.rslora),
        "dora": (bool(said.use_dora), lora.dora),
    }
    for key, (there, here) in told.items():
        if there != here:
            yield f"its lora.{key} is {_told(there)}, and the recipe's {_told(here)}; `--set lora.{key}={_told(there)}`"
    try:
        model = empty_model(config, source.architecture)
    except (ValueError, KeyError, ImportError, TypeError, RuntimeError, AttributeError):
        return  # Code of its own: its weights are held to the adapter's when they are put on.
    targets = spec.lora.targets or source.lora_targets
    here_on = set(adapted_layers(model, targets if isinstance(targets, str) else tuple(targets)))
    there_on = {key.removeprefix(_FIRST).removesuffix(_LAST) for key in info.shapes if key.endswith(_LAST)}
    if here_on != there_on:
        there_kinds, here_kinds = ([*sorted({key.rpartition(".")[2] for key in on})] for on in (there_on, here_on))
        if there_kinds == here_kinds:
            yield f"is on {len(there_on)} layers, of which {len(there_on - here_on)} aren't the recipe's {len(here_on)}"
        else:
            kinds = ", ".join(there_kinds)
            differ = f"is on {kinds}, and the recipe's lora.targets are {', '.join(here_kinds)}"
            yield f"{differ}; `--set lora.targets=[{kinds}]`"


def _told(value: float | bool | None) -> str:
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else f"{value:g}"
