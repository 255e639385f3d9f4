"""A twin's weights: random, the same on every machine."""

from __future__ import annotations

import hashlib
import json
import math
import os

from slmbench.schema import ModelSpec
from slmbench.values import Config, Tensor

STD = 0.05
"""As nano's. Logits come out small, so that an untrained twin's loss is about that of guessing."""


def write_weights(folder: str, spec: ModelSpec, config: Config) -> None:
    """`model.safetensors` with every tensor of the config's model that isn't tied to another one."""
    import torch
    import transformers
    from safetensors.torch import save

    assert spec.twin is not None
    with torch.device("meta"):  # Names and shapes alone: no memory, and no draw from anybody's random numbers.
        model = getattr(transformers, config.architectures[0])(config)
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    left_out = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}
    if spec.tied_head:
        left_out.add("lm_head.weight")
    tensors = {key: _tensor(spec.twin.seed, key, shape, config) for key, shape in shapes.items() if key not in left_out}
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(save(tensors, metadata={"format": "pt"}))


def _tensor(seed: int, key: str, shape: tuple[int, ...], config: Config) -> Tensor:
    import torch

    if "norm" in key and key.endswith("weight"):
        return torch.ones(shape)
    said = int.from_bytes(hashlib.sha256(json.dumps([seed, key]).encode()).digest()[:8], "little")
    generator = torch.Generator().manual_seed(said >> 1)
    # A sum of whole numbers is the same on every processor; a normal deviate is not, to the last bit.
    draws = torch.randint(0, 1 << 16, (12, *shape), generator=generator, dtype=torch.int64).sum(dim=0)
    unit = (draws - 6 * ((1 << 16) - 1)).to(torch.float32) / (1 << 16)  # Twelve draws have a variance of one.
    return unit * _std(key, shape, config)


def _std(key: str, shape: tuple[int, ...], config: Config) -> float:
    if config.model_type != "t5" or key == "lm_head.weight":
        return STD
    if key == "shared.weight":
        return 1.0
    # T5 doesn't divide its attention scores by the root of the head's width; its queries start that much smaller.
    width = config.d_kv if key.endswith(".q.weight") else 1
    return 1 / math.sqrt(shape[-1] * width)
