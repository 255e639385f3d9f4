"""A model whose weights another program reads from its files: what identifies it, and no weights in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from attrs import evolve, frozen

from slmbench.errors import UsageError
from slmbench.models._adapters import AdapterInfo
from slmbench.models._load import LoadedModel, load_model, model_folder, settled_config
from slmbench.models._settled import of_head
from slmbench.models._source import ModelSource
from slmbench.paths import shown
from slmbench.values import Config, Model

ELSEWHERE = "take --engine shared or hf"


@frozen
class LoraShape:
    """What another program has to make room for. rank: the largest; targets: last parts of its modules' names."""

    rank: int
    targets: frozenset[str]


class Reader(Protocol):
    """The other program, with the weights."""

    def close(self) -> None:
        """Ends it, and gives its memory back."""


class ModelApart:
    """In a model's place in a `LoadedModel`: its config and shapes.

    folder: its files. device: where it is computed, as torch names it. file: the GGUF file that is computed, None if it
    is the folder. digest_of: dtype -> digests under which adapters know weights that were packed since then. loras: of
    the adapters that will be asked for. reader: who has read the files, None if nobody has.
    """

    def __init__(
        self,
        skeleton: Model,
        folder: str,
        device: str,
        *,
        file: str | None = None,
        digest_of: Callable[[str], list[str]] | None = None,
    ) -> None:
        self.skeleton = skeleton
        self.folder = folder
        self.device = device
        self.file = file
        self.digest_of = digest_of
        self.loras: list[LoraShape] = []
        self.reader: Reader | None = None

    @property
    def config(self) -> Config:
        """transformers' config."""
        return self.skeleton.config

    @property
    def generation_config(self) -> Any:
        """transformers' generation config, None if the model has none."""
        return self.skeleton.generation_config

    def get_input_embeddings(self) -> Model:
        """The embeddings' module, whose tensor has a shape and no numbers."""
        return self.skeleton.get_input_embeddings()

    def named_modules(self) -> Iterator[tuple[str, Model]]:
        """(name, module) of all, without numbers."""
        found: Iterator[tuple[str, Model]] = self.skeleton.named_modules()
        return found

    def close(self) -> None:
        """Ends the reader, if there is one."""
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.close()


def load_apart(source: ModelSource, *, dtype: str = "auto") -> LoadedModel:
    """A model for an engine that reads its files itself. model: a `ModelApart`.

    The weights are read once, into this process' own memory, for their digest and for what `load_model` checks, and let
    go of. dtype: as for `load_model`. Raises what `load_model` raises, and UsageError for a model that other programs
    would read otherwise: an encoder-decoder, packed weights, files that don't fit together.
    """
    import torch

    settled = settled_config(source)
    who = f"model {source.name!r} in {shown(source.location)}"
    if settled.config.is_encoder_decoder:
        raise UsageError(f"{who} is an encoder-decoder, which this engine doesn't compute; {ELSEWHERE}")
    if settled.changed:
        raise UsageError(f"{who}: {settled.notices[0]}, which this engine wouldn't do; mend its config.json")
    if getattr(settled.config, "quantization_config", None) is not None:
        raise UsageError(f"{who} is quantised; give the weights that it was made from, or {ELSEWHERE}")
    loaded = load_model(source, dtype=dtype, on_cpu=True)
    if told := of_head(loaded.model, settled):
        raise UsageError(f"{who}: {told[0]}, which this engine wouldn't do; mend its config.json, or {ELSEWHERE}")
    skeleton = loaded.model.to("meta")
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    return evolve(loaded, model=ModelApart(skeleton, os.path.abspath(model_folder(source)), device))


def is_apart(loaded: LoadedModel) -> bool:
    """Whether a model's weights are another program's."""
    return isinstance(loaded.model, ModelApart)


def let_go(loaded: LoadedModel) -> None:
    """Ends the program that has a model's weights, if another one has."""
    if isinstance(loaded.model, ModelApart):
        loaded.model.close()


def check_requested(info: AdapterInfo, apart: ModelApart, dtype: str) -> LoraShape:
    """What an adapter asks of another program, which has to be plain LoRA on linear layers.

    Raises UsageError for anything else: what of an adapter such a program leaves out, it leaves out without a word.
    """
    config, more = info.config, info.config.model_extra or {}
    who = f"adapter {shown(info.folder)}"
    odd = "" if info.kind == "LORA" else f"is {info.kind}"
    told = {
        "use_dora": config.use_dora,
        "lora_bias": config.lora_bias,
        "modules_to_save": config.modules_to_save,
        "trainable_token_indices": config.trainable_token_indices,
        "alora_invocation_tokens": config.alora_invocation_tokens,
        "layer_replication": config.layer_replication,
        "target_parameters": more.get("target_parameters"),
        "use_qalora": more.get("use_qalora"),
        "use_bdlora": more.get("use_bdlora"),
        "bias": more.get("bias") if more.get("bias") != "none" else None,
    }
    if not odd and (set_ := [f"{name}={value!r}" for name, value in told.items() if value]):
        odd = f"has {', '.join(set_)}"
    begun = more.get("init_lora_weights")
    if not odd and isinstance(begun, str) and begun not in ("gaussian", "orthogonal", "eva"):
        odd = f"was begun with init_lora_weights={begun!r}, which changes the base's own weights"
    if odd:
        raise UsageError(f"{who} {odd}; this engine takes plain LoRA alone: {_otherwise(info)}")
    if dtype == "float32" and apart.device != "cpu":
        raise UsageError(
            f"{who}: its base is held in float32, and on a GPU this engine computes LoRA in bfloat16 and float16 "
            f"alone: {_otherwise(info)}"
        )
    modules, rank, targets = dict(apart.named_modules()), 0, set()
    for key, shape in info.shapes.items():
        name, _, factor = key.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
        module = modules.get(name)
        sides = (getattr(module, "in_features", None), getattr(module, "out_features", None))
        wanted = {"lora_A": sides[0], "lora_B": sides[1]}.get(factor)
        if wanted is None or len(shape) != 2:
            raise UsageError(
                f"{who}: its tensor {key} is not a LoRA's of a linear layer of {apart.config.model_type}; this engine "
                f"takes these alone: {_otherwise(info)}"
            )
        if shape[1 if factor == "lora_A" else 0] != wanted:
            raise UsageError(
                f"{who} doesn't fit: its tensor {key} has the shape {tuple(shape)}, and the layer has {sides[0]} "
                f"inputs and {sides[1]} outputs; it was trained on a model of another shape"
            )
        rank = max(rank, shape[0 if factor == "lora_A" else 1])
        targets.add(name.rpartition(".")[2])
    return LoraShape(rank, frozenset(targets))


def _otherwise(info: AdapterInfo) -> str:
    return f"{ELSEWHERE}, or merge it into its base (`slmbench export {shown(info.folder)} --to merged`) and give that"
