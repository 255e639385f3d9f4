"""Where a model's files disagree with each other: what holds, and what a person should know of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from slmbench.errors import UsageError
from slmbench.models._files import Stored, stored_tensors
from slmbench.paths import shown
from slmbench.values import Config, Model, Tokenizer


@frozen(eq=False)
class Settled:
    """A config as it holds of the weights beside it. raw: what config.json itself says. changed: it is another one."""

    config: Any
    raw: Mapping[str, Any]
    changed: bool = False
    notices: tuple[str, ...] = ()


def settle(config: Config, raw: Mapping[str, object], location: str, options: Mapping[str, object]) -> Settled:
    """A config without a quantisation that its weights don't have.

    A model that was merged into whole weights often keeps the `quantization_config` of its packed base. Raises
    UsageError for packed weights whose config doesn't say how, and FileError for damaged files.
    """
    packing = getattr(config, "quantization_config", None)
    if os.path.isdir(location):
        stored = stored_tensors(location)
    else:  # Asked for where it matters alone: their headers are in the weights' files, which are fetched for it.
        stored = None if packing is None else _fetched_tensors(location, options)
    if stored is None:
        return Settled(config, raw)
    if packing is None:
        if packed := stored.packed:
            raise UsageError(
                f"{shown(location)}: {len(packed)} of its tensors are packed, such as {packed[0]} "
                f"({stored.dtypes[packed[0]]}), but config.json has no quantization_config that says how; take it over "
                "from the model that they come from, or give the whole weights"
            )
        _check_sizes(raw, stored, location)
        return Settled(config, raw)
    if stored.packed:
        return Settled(config, raw)
    said = packing if isinstance(packing, Mapping) else packing.to_dict()
    method = str(said.get("quant_method", "")) or "quantised"
    del config.quantization_config
    notice = f"config.json says {method}, but the weights beside it are whole: loaded as they are"
    return Settled(config, raw, True, (notice,))


def _check_sizes(raw: Mapping[str, object], stored: Stored, location: str) -> None:
    """Raises UsageError for sizes that the weights can't have, before any memory is taken for them."""
    for name in ("hidden_size", "vocab_size"):
        said = raw.get(name)
        if type(said) is int and stored.sides and said not in stored.sides:
            raise UsageError(
                f"{shown(location)}: config.json says {name} {said:,}, and no tensor of the weights has a side of that "
                "length: they have another shape; take config and weights of one model"
            )
    layers = raw.get("num_hidden_layers")
    if type(layers) is int and layers > len(stored.dtypes):
        raise UsageError(
            f"{shown(location)}: config.json says {layers:,} layers, and the weights are {len(stored.dtypes):,} "
            "tensors: tensors are missing; take config and weights of one model"
        )


def _fetched_tensors(location: str, options: Mapping[str, object]) -> Stored | None:
    from transformers.utils import cached_file

    keys = ("revision", "local_files_only")
    asked = {key: options[key] for key in keys if key in options} | {"_raise_exceptions_for_missing_entries": False}
    found = cached_file(location, "model.safetensors", **asked)
    if found is None:
        index = cached_file(location, "model.safetensors.index.json", **asked)
        if index is None:
            return None
        from transformers.utils.hub import get_checkpoint_shard_files

        get_checkpoint_shard_files(location, index, **{key: options[key] for key in keys if key in options})
        found = index
    return stored_tensors(os.path.dirname(str(found)))


def of_head(model: Model, settled: Settled) -> list[str]:
    """What to tell of a head that is tied to the embeddings, or isn't, where config.json says otherwise."""
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or not hasattr(head, "weight") or not hasattr(embeddings, "weight"):
        return []
    said = settled.raw.get("tie_word_embeddings", settled.config.get_text_config().tie_word_embeddings)
    tied = head.weight is embeddings.weight
    if said and not tied:
        return [
            "config.json ties the head to the embeddings, but the weights have a head of their own that differs: that "
            "head is scored, trained and saved"
        ]
    if tied and said is False:
        return ["config.json says that the head is its own, but the weights have none: the embeddings serve as head"]
    return []


def take_ends(model: Model, settled: Settled, tokenizer: Tokenizer) -> list[str]:
    """Has every EOS of config.json and generation_config.json end a text; tells where one file knows fewer."""
    config = getattr(model, "generation_config", None)
    if config is None:
        return []
    drawn, said = (_ids(one) for one in (config.eos_token_id, settled.raw.get("eos_token_id")))
    more = [one for one in said if one not in drawn]
    if not more or not drawn:
        return []
    config.eos_token_id = [*drawn, *more]
    names = ", ".join(repr(tokenizer.decode([one])) for one in more)
    return [f"generation_config.json doesn't end texts at {names}, which config.json does: either of them ends a text"]


def _ids(value: object) -> list[int]:
    listed = value if isinstance(value, list | tuple) else [value]
    return [one for one in listed if type(one) is int and one >= 0]
