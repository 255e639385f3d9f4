"""A model without its weights: the parameters that it has, what an adapter adds, and what packing leaves."""

from __future__ import annotations

import re
from collections.abc import Sequence

from slmbench.schema import QuantizationSpec
from slmbench.values import Config, Model

BLOCK_NUMBERS = 64
"""Numbers of a packed layer that share a scale, as bitsandbytes packs by default."""
SCALE_BLOCK = 256
"""Scales that share a scale of their own where quantisation is doubled."""


def empty_model(config: Config, architecture: str, dtype: object = None) -> Model:
    """The model of a transformers config on the meta device: names and shapes, no numbers.

    Raises ValueError, KeyError or ImportError if transformers can't build it without its own code.
    """
    import torch
    import transformers

    auto = transformers.AutoModelForSeq2SeqLM if architecture == "seq2seq" else transformers.AutoModelForCausalLM
    with torch.device("meta"):
        return auto.from_config(config, dtype=dtype or torch.float32)


def linear_layers(model: Model) -> dict[str, tuple[int, int]]:
    """name -> (in, out) of a model's linear layers, the head's too."""
    import torch

    found = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            found[name] = (int(module.in_features), int(module.out_features))
        elif type(module).__name__ == "Conv1D":  # transformers' own, of GPT-2: a linear layer with its weight turned.
            found[name] = (int(module.weight.shape[0]), int(module.weight.shape[1]))
    return found


def is_target(name: str, targets: Sequence[str] | str) -> bool:
    """Whether peft puts an adapter on a module: it ends in a target, or the whole name fits a pattern."""
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def head_names(model: Model) -> set[str]:
    """The names of a model's head, and of its input embeddings where they are the same tensor."""
    parts = [model.get_output_embeddings(), model.get_input_embeddings() if head_is_tied(model) else None]
    held = {id(part) for part in parts if part is not None}
    return {name for name, module in model.named_modules(remove_duplicate=False) if id(module) in held}


def head_is_tied(model: Model) -> bool:
    """Whether the head's weight is the input embedding's, as the model is built."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or embedding is None or getattr(head, "weight", None) is None:
        return False
    # A model on the meta device that isn't tied yet says so by its config alone.
    return head.weight is embedding.weight or bool(getattr(model.config, "tie_word_embeddings", False))


def adapted_layers(model: Model, targets: Sequence[str] | str) -> dict[str, tuple[int, int]]:
    """The linear layers that an adapter of these targets is put on; `all-linear` leaves the head out."""
    layers = linear_layers(model)
    if targets == "all-linear":
        heads = head_names(model)
        return {name: shape for name, shape in layers.items() if name not in heads}
    return {name: shape for name, shape in layers.items() if is_target(name, targets)}


def packed_layers(model: Model) -> set[str]:
    """The names of the linear layers that bitsandbytes packs when transformers loads the model for it."""
    from transformers.quantizers.base import get_keys_to_not_convert
    from transformers.quantizers.quantizers_utils import should_convert_module

    kept = [*get_keys_to_not_convert(model), *(getattr(model, "_keep_in_fp32_modules", None) or ())]
    return {name for name in linear_layers(model) if should_convert_module(name, kept)}


def eight_bit_bytes(rows: int, numbers: int) -> int:
    """What a layer of so many numbers takes in eight bits, with a scale for each of its rows."""
    return numbers + 4 * rows


def packed_bytes(numbers: int, *, double: bool) -> int:
    """What a layer of so many numbers takes in four bits, with its scales and its tables."""
    scales = -(-numbers // BLOCK_NUMBERS)
    constants = scales + 4 * -(-scales // SCALE_BLOCK) + 1024 + 4 if double else 4 * scales
    return -(-numbers // 2) + constants + 64


def pack_layers(model: Model, packing: QuantizationSpec, *, compute: object, replace: bool = True) -> int:
    """How many bytes less a model on the meta device takes when bitsandbytes packs it.

    replace: also puts in the place of each such layer one whose weight takes what the packed one does, and which
    unpacks it to `compute` for a product.
    """
    import torch

    from slmbench.training._packed import eight_bit_linear, packed_linear

    saved = 0
    for name in packed_layers(model):
        layer = model.get_submodule(name)
        if packing.type == "int8":
            size = eight_bit_bytes(layer.weight.shape[0], layer.weight.numel())
        else:
            size = packed_bytes(layer.weight.numel(), double=packing.double)
        saved += layer.weight.numel() * layer.weight.element_size() - size
        if replace:
            with torch.device("meta"):
                eight = packing.type == "int8"
                model.set_submodule(name, eight_bit_linear(layer) if eight else packed_linear(layer, size, compute))
    model.__dict__["is_loaded_in_8bit"] = packing.type == "int8"  # As transformers says it.
    return saved
