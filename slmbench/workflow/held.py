"""An evaluation's models, loaded: a base as its adapters were trained on it, and what a training or a merge made."""

from __future__ import annotations

from attrs import evolve

from slmbench.catalog import Catalog
from slmbench.console import phase, say
from slmbench.errors import UsageError
from slmbench.models import LoadedModel, ModelSource, load_apart, load_gguf, load_model, resolve_model
from slmbench.paths import shown
from slmbench.runs import read_merge, read_training
from slmbench.schema import QuantizationSpec


def source_of(model: str, catalog: Catalog, twin: bool, apart: str) -> ModelSource:
    """Where a model comes from; a GGUF file is left packed for an engine that reads it itself."""
    return resolve_model(model, catalog, twin=twin, unpacked=apart not in ("gguf", "served"))


def held_whole(folder: str) -> str:
    """The dtype of a model whose weights were all trained, or merged. Raises UsageError if neither made the folder."""
    try:
        return read_training(folder).dtype
    except FileNotFoundError:
        pass
    try:
        read_merge(folder)
        return "auto"  # As the base is held that it stands beside, whatever it was written in.
    except FileNotFoundError:
        raise UsageError(
            f"--adapter {shown(folder)}: it holds a whole model, and neither a training.json nor a merge.json that "
            f"says what it was made from; give it as the model: slmbench eval {shown(folder)}"
        ) from None


def as_trained(source: ModelSource, folder: str, catalog: Catalog, dtype: str, apart: str) -> LoadedModel:
    """The model that a training of all weights, or a merge, made of a source."""
    if apart == "gguf":
        raise UsageError(
            f"--adapter {shown(folder)} holds a whole model, and this engine reads a GGUF file; write one "
            f"(`slmbench export {shown(folder)} --to gguf`) and give it as the model"
        )
    whole = resolve_model(folder, catalog)
    name = f"{source.name}-{whole.name}"
    whole = evolve(whole, name=name, family=source.family, twin=source.twin)
    return load_apart(whole, dtype=dtype) if apart else load_model(whole, dtype=dtype)


def load_held(
    source: ModelSource, dtype: str, quantization: QuantizationSpec | None, *, apart: str = ""
) -> LoadedModel:
    """A base held as its adapters were trained on it (`held_as`): in their dtype, packed where they are QLoRA's.

    apart: for an engine that reads it itself. Raises UsageError for a packed one then.
    """
    if apart == "gguf":
        with phase(f"reading {source.name}"):
            return load_gguf(source)
    if apart:
        if quantization is not None:
            raise UsageError(
                f"these adapters were trained on a base packed as {quantization.label}, as this engine holds none; "
                "take --engine shared, or merge each into its base (`slmbench export ADAPTER --to merged`)"
            )
        with phase(f"reading {source.name}"):
            return load_apart(source, dtype=dtype)
    if quantization is not None:
        say(f"the base is held as its adapters were trained on it: {quantization.label}")
    with phase(f"loading {source.name}"):
        return load_model(source, dtype=dtype, quantization=quantization)
