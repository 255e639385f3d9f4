"""A LoRA adapter's folder as the GGUF adapter that llama.cpp puts beside a model."""

from __future__ import annotations

import os
import re

from slmbench.errors import UsageError
from slmbench.gguf_files import ARCHITECTURES, GgufLayout, LoraPair, write_lora
from slmbench.models._adapter_files import WEIGHTS, AdapterConfig
from slmbench.models._adapters import AdapterInfo
from slmbench.models._gguf_header import read_gguf_head
from slmbench.models._peft_config import check_patterns
from slmbench.paths import shown

_PREFIX = "base_model.model."
_SIDES = (".lora_A.weight", ".lora_B.weight")


def gguf_layout(path: str) -> GgufLayout:
    """How the tensors of a GGUF file's model lie, by its head. Raises UsageError for a file of no such model."""
    head = read_gguf_head(path)
    said, name = head.of_architecture(), head.architecture
    numbers = [said.get(key) for key in ("block_count", "attention.head_count")]
    if name not in ARCHITECTURES.values() or not all(isinstance(number, int) and number > 0 for number in numbers):
        known = ", ".join(sorted(set(ARCHITECTURES.values())))
        raise UsageError(f"{shown(path)} is of architecture {name!r}; adapters are put on {known}")
    layers, heads = (int(number or 0) for number in numbers)
    return GgufLayout(
        name, layers, heads, int(said.get("attention.head_count_kv", heads)), "output.weight" not in head.tensors
    )


def write_gguf_lora(info: AdapterInfo, layout: GgufLayout, path: str, *, base: str | None = None) -> None:
    """Writes an adapter as a GGUF file that llama.cpp puts on a model of this layout; whole or not at all.

    layout: `gguf_layout` of a GGUF file, or `slmbench.gguf_files.layout_of` a transformers config. base: its name.
    Raises UsageError, with all reasons, for what llama.cpp can't put on a model (DoRA, whole modules, embeddings,
    biases, a kind that isn't LoRA, modules that it has no tensor of); FileError for damaged files; SlmbenchError where
    the disk can't be written.
    """
    check_gguf_lora(info, layout)
    write_lora(path, layout, _pairs(info), name=info.name, base=base)


def check_gguf_lora(info: AdapterInfo, layout: GgufLayout) -> None:
    """Raises UsageError, with all reasons, for an adapter that llama.cpp can't put on a model of this layout."""
    faults = _faults(info)
    if not faults:
        odd = sorted({_module(name) for name in info.shapes if layout.place(_module(name)) is None})
        faults = [f"llama.cpp has no tensor of its own for {', '.join(odd[:3])}{_more(odd)}"] if odd else []
    if faults:
        raise UsageError(
            f"adapter {shown(info.folder)} can't be put on a model by llama.cpp: {'; '.join(faults)}. Merge it into "
            f"its base instead: `slmbench export {shown(info.folder)} --to gguf`"
        )


def _faults(info: AdapterInfo) -> list[str]:
    if info.kind != "LORA":
        return [f"it is {info.kind}, and llama.cpp knows LoRA alone"]
    said, faults = info.config, []
    names = list(info.shapes)
    if said.use_dora or any("lora_magnitude_vector" in name for name in names):
        faults.append("it is DoRA (use_dora), which scales whole columns of the base's weights")
    if said.alora_invocation_tokens:
        faults.append("it is an activated LoRA, which acts from its own tokens on")
    more = said.model_extra or {}
    begun = more.get("init_lora_weights")
    if isinstance(begun, str) and begun not in ("gaussian", "orthogonal", "eva"):
        faults.append(f"it was begun with init_lora_weights={begun!r}, which changes the base's own weights")
    if said.layer_replication:
        faults.append("it repeats layers of the base (layer_replication)")
    if more.get("target_parameters"):
        faults.append("it is on bare parameters (target_parameters)")
    if said.trainable_token_indices:
        faults.append("it has trained tokens (trainable_token_indices)")
    if embeddings := [name for name in names if "lora_embedding_" in name or "embed_tokens" in name]:
        faults.append(f"it changes embeddings ({_module(embeddings[0])})")
    if biases := [name for name in names if name.endswith(".bias")]:
        faults.append(f"it has biases ({_module(biases[0])})")
    known = {*embeddings, *biases, *(name for name in names if "lora_magnitude_vector" in name)}
    if whole := sorted({_module(name) for name in names if name not in known and not name.endswith(_SIDES)}):
        faults.append(f"it holds whole modules (modules_to_save: {', '.join(whole[:3])}{_more(whole)})")
    return faults


def _pairs(info: AdapterInfo) -> list[LoraPair]:
    from safetensors import safe_open

    check_patterns(info, [_module(name) for name in info.shapes])
    pairs = []
    with safe_open(os.path.join(info.folder, WEIGHTS), "pt") as file:
        for name in sorted(info.shapes):
            stem, found, _ = name.partition(_SIDES[0])
            if not found:
                continue
            if stem + _SIDES[1] not in info.shapes:
                raise UsageError(f"adapter {shown(info.folder)}: {name} has no {_SIDES[1]} beside it; make it again")
            inner, outer = (file.get_tensor(stem + side).float().numpy() for side in _SIDES)
            module = _module(name)
            pairs.append(LoraPair(module, inner, outer, _scale(info.config, module, inner.shape[0])))
    return pairs


def _scale(config: AdapterConfig, module: str, rank: int) -> float:
    # peft's own defaults; alpha by the first pattern that a module's name ends in, as peft looks for it.
    alpha = float(8 if config.lora_alpha is None else config.lora_alpha)
    for pattern, value in (config.alpha_pattern or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = float(value)
            break
    return alpha / (rank**0.5 if config.use_rslora else rank)


def _module(name: str) -> str:
    module = name.removeprefix(_PREFIX)
    for end in (".lora_A", ".lora_B", ".lora_embedding_", ".lora_magnitude_vector", ".base_layer"):
        module = module.partition(end)[0]
    return module.removesuffix(".weight").removesuffix(".bias")


def _more(names: list[str]) -> str:
    return f" and {len(names) - 3} more" if len(names) > 3 else ""
