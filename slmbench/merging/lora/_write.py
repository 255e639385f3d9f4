"""A merged adapter as a folder that peft and an evaluation load."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from slmbench.files import disk_errors, json_bytes, write_together
from slmbench.merging.lora._factors import Factors, LoraUpdate
from slmbench.merging.lora._read import CONFIG, PREFIX, WEIGHTS
from slmbench.values import JsonObject

if TYPE_CHECKING:
    from torch import Tensor

    from slmbench.merging.lora._merge import MergedAdapter


def write_lora(folder: str, merged: MergedAdapter, *, base: str | None = None) -> None:
    """Writes an adapter's two files into a folder, both or none. base: where its base is, if not as its parts say it.

    Raises SlmbenchError if the disk can't be written.
    """
    from safetensors.torch import save

    config = merged.config | ({"base_model_name_or_path": base} if base is not None else {})
    with disk_errors(folder):
        os.makedirs(folder, exist_ok=True)
    weights = save({name: tensor.contiguous() for name, tensor in merged.tensors.items()}, {"format": "pt"})
    write_together({os.path.join(folder, WEIGHTS): weights, os.path.join(folder, CONFIG): json_bytes(config)})


def as_peft(
    updates: Sequence[LoraUpdate],
    modules: Mapping[str, Factors],
    shifts: Mapping[str, Tensor],
    whole: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], JsonObject]:
    """(tensors by peft's names, the settings of adapter_config.json).

    All modules get the largest rank, filled with zeros, and alpha = rank, so that the scaling is 1 everywhere: patterns
    of ranks are not read by every program that loads adapters.
    """
    import torch

    rank = max((one.rank for one in modules.values()), default=1)
    tensors: dict[str, Tensor] = {}
    for name, one in modules.items():
        module = PREFIX + name.removesuffix(".weight")
        a = torch.zeros(rank, one.a.shape[1])
        b = torch.zeros(one.b.shape[0], rank)
        a[: one.rank], b[:, : one.rank] = one.a, one.b * one.scaling
        if one.kind == "embedding":
            tensors |= {f"{module}.lora_embedding_A": b.mT, f"{module}.lora_embedding_B": a.mT}
            continue
        if one.kind == "conv1d":
            a, b = b.mT, a.mT
        tensors |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
        if shifts:
            shift = shifts.get(f"{name.removesuffix('.weight')}.bias")
            tensors[f"{module}.lora_B.bias"] = torch.zeros(b.shape[0]) if shift is None else shift
    copied = {name for one in updates for name in one.copied}
    for name, tensor in whole.items():
        module, _, kind = name.rpartition(".")
        inside = f"{module}.base_layer.{kind}" if name in modules else name
        tensors[PREFIX + inside] = tensor
    first = updates[0].info.config
    tasks = {one.info.config.task_type for one in updates}
    saved = sorted({name.rpartition(".")[0] for name in whole if name not in copied})
    config: JsonObject = {
        "peft_type": "LORA",
        "task_type": first.task_type if len(tasks) == 1 else None,
        "base_model_name_or_path": first.base_model_name_or_path,
        "revision": first.revision,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "fan_in_fan_out": any(one.kind == "conv1d" for one in modules.values()),
        "target_modules": _targets(updates, modules),
        "rank_pattern": {},
        "alpha_pattern": {},
        "modules_to_save": saved or None,
        **({"lora_bias": True} if shifts else {}),
    }
    return tensors, config


def _targets(updates: Sequence[LoraUpdate], modules: Mapping[str, Factors]) -> list[str]:
    """The short names of the inputs where they say exactly which modules there are, else every module's own."""
    short: set[str] = set()
    for one in updates:
        config = one.info.config
        listed = config.target_modules if isinstance(config.target_modules, list) else []
        if not listed or config.exclude_modules or config.layers_to_transform is not None or config.layers_pattern:
            return sorted(name.removesuffix(".weight") for name in modules)
        short.update(listed)
    return sorted(short)
