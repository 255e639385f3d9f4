"""What a GGUF file has to be, so that transformers makes of it the model that llama.cpp makes of it."""

from __future__ import annotations

import math
import re
from typing import Any

from slmbench.errors import UsageError, did_you_mean
from slmbench.gguf_files import llama3_factors
from slmbench.models._gguf_header import GgufHead
from slmbench.paths import shown
from slmbench.values import Config, JsonObject

_ROTATION = "rope_freqs.weight"
# Settings that transformers doesn't read and that change nothing it computes, or nothing by these values.
_HARMLESS = {
    "vocab_size", "rope.dimension_count", "rope.scaling.finetuned", "attention.causal", "tensor_data_layout",
    "attention.key_length", "attention.value_length", "use_parallel_residual",
    "attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon", "decoder_start_token_id", "decoder_block_count",
    "attention.relative_buckets_count", "rope.dimension_sections", "attention.key_length_swa",
    "attention.value_length_swa", "rope.dimension_count_swa",
}  # fmt: skip
_NOTHING: dict[str, tuple[Any, ...]] = {
    "rope.scaling.type": ("none", ""),
    "rope.scaling.factor": (0.0, 1.0),
    "rope.scale_linear": (0.0, 1.0),
    "rope.scaling.attn_factor": (1.0,),
    "expert_count": (0,),
    "expert_used_count": (0,),
}
# Where transformers' own config has it under this name and the same value, nothing is lost.
_IN_CONFIG = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "attention.sliding_window": "sliding_window",
}
# What Llama 3.1 and 3.2 were published with; a file keeps only the resulting factors.
_LLAMA3: JsonObject = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_LLAMA3_FACTORS = (8.0, 32.0)


def check_head(head: GgufHead) -> None:
    """Raises UsageError, with every reason, for a file that is not a whole model or would be read as another."""
    check_whole(head)
    _refuse_unread(head)


def check_whole(head: GgufHead) -> None:
    """Raises UsageError for a file that is not a whole model, whoever is to read it."""
    _refuse_other_kinds(head)
    _refuse_cut(head)


def packing_of(head: GgufHead) -> str:
    """How a file is packed, as `Q4_K_M`: what it says of itself, if it has such tensors; else what most numbers are in.

    A mixture has few of what it is called after.
    """
    shares = packed_numbers(head)
    said = _file_type(head)
    base = re.sub(r"_(S|M|L)$", "", said)
    return said if base in shares else max(shares, key=lambda one: shares[one], default="type -1")


def _file_type(head: GgufHead) -> str:
    """llama.cpp's name of a whole file's packing; '' if the file has none that is known."""
    import gguf

    try:
        return str(gguf.LlamaFileType(head.metadata.get("general.file_type")).name).partition("_")[2]
    except ValueError:
        return ""


def packed_numbers(head: GgufHead) -> dict[str, int]:
    """What a file's numbers are packed in, as `Q4_1` -> how many of them."""
    names = {number: name for name, number in _kinds().items()}
    shares: dict[str, int] = {}
    for tensor in head.tensors.values():
        name = names.get(tensor.kind, f"type {tensor.kind}")
        shares[name] = shares.get(name, 0) + tensor.numbers
    return shares


def scaled_rotation(head: GgufHead) -> JsonObject | None:
    """Llama 3's rope scaling, found again from the factors that a file keeps of it; None for a file without any.

    Raises UsageError if no published setting gives those factors.
    """
    tensor = head.tensors.get(_ROTATION)
    if tensor is None:
        return None
    factors = _floats(head, _ROTATION)
    if all(factor == 1.0 for factor in factors):
        return None
    base = float(head.of_architecture().get("rope.freq_base", 10000.0))
    for factor in _LLAMA3_FACTORS:
        wanted = llama3_factors(
            base,
            2 * len(factors),
            factor,
            low=_LLAMA3["low_freq_factor"],
            high=_LLAMA3["high_freq_factor"],
            original=_LLAMA3["original_max_position_embeddings"],
        )
        if all(math.isclose(got, said, rel_tol=1e-4) for got, said in zip(factors, wanted, strict=True)):
            return {"rope_type": "llama3", "factor": factor, **_LLAMA3}
    raise UsageError(
        f"{shown(head.path)} turns its positions by factors of its own ({_ROTATION}) that are not Llama 3.1's or "
        "3.2's, and transformers would leave them out; give the folder or hub id that it was made from"
    )


def _floats(head: GgufHead, name: str) -> list[float]:
    import struct

    tensor = head.tensors[name]
    if tensor.kind != 0:
        raise UsageError(f"{shown(head.path)}: {name} is not in float32")
    with open(head.path, "rb") as file:
        file.seek(head.data_start + tensor.offset)
        return list(struct.unpack(f"<{tensor.numbers}f", file.read(4 * tensor.numbers)))


def _refuse_other_kinds(head: GgufHead) -> None:
    said = head.metadata
    parts = said.get("split.count", 0)
    if isinstance(parts, int) and parts > 1:
        raise UsageError(
            f"{shown(head.path)} is one part of {parts}; make one file of them with "
            "`llama-gguf-split --merge FIRST_PART WHOLE.gguf`"
        )
    kind = str(said.get("general.type", "model"))
    if kind == "adapter":
        raise UsageError(
            f"{shown(head.path)} is a LoRA adapter for llama.cpp, and no model; give its base as the model, and an "
            "adapter in peft's layout (adapter_config.json, adapter_model.safetensors) with --adapter"
        )
    if kind in ("mmproj", "projector") or head.architecture in ("clip", "mmproj"):
        raise UsageError(
            f"{shown(head.path)} is the part of a model that reads pictures (mmproj), and writes no text; give the "
            "text model's own GGUF file"
        )
    if kind != "model":
        raise UsageError(f"{shown(head.path)} holds no model: its general.type is {kind!r}")
    if not head.architecture:
        raise UsageError(f"{shown(head.path)} has no general.architecture, so there is no telling what it is")
    if not head.tensors:
        raise UsageError(f"{shown(head.path)} holds a vocabulary and no weights")


def _refuse_cut(head: GgufHead) -> None:
    sizes, kinds = _sizes(), {number: name for name, number in _kinds().items()}
    for name, tensor in head.tensors.items():
        if tensor.kind not in kinds:
            raise UsageError(
                f"{shown(head.path)}: {name} is packed in ggml's type {tensor.kind}, which the installed gguf package "
                "doesn't know; update it with `pip install -U gguf`"
            )
        block, width = sizes[tensor.kind]
        if not tensor.numbers or tensor.shape[-1] % block:
            raise UsageError(f"{shown(head.path)} is damaged: {name} has shape {list(tensor.shape)}")
        end = head.data_start + tensor.offset + tensor.numbers // block * width
        if end > head.size:
            raise UsageError(
                f"{shown(head.path)} is cut: it has {head.size:,} bytes, and {name} ends at {end:,}; fetch it again"
            )


def _refuse_unread(head: GgufHead) -> None:
    from transformers.integrations import GGUF_CONFIG_MAPPING
    from transformers.integrations.gguf import GGUF_CONFIG_ARCHS

    if head.architecture in GGUF_CONFIG_ARCHS:
        return
    named = head.architecture.replace("-", "_")
    named = {"qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe", "t5encoder": "t5"}.get(named, named)
    known = set(GGUF_CONFIG_MAPPING) - {"general"} | set(GGUF_CONFIG_ARCHS)
    if named not in known:
        raise UsageError(
            f"{shown(head.path)} is of architecture {head.architecture!r}, which transformers doesn't read from GGUF"
            f"{did_you_mean(head.architecture, known)}; give the folder or hub id that it was made from"
        )
    read, defaults = GGUF_CONFIG_MAPPING[named], _config_of(named)
    lost = []
    for key, value in head.of_architecture().items():
        if key in _NOTHING:
            fine = value in _NOTHING[key]
        elif key in _IN_CONFIG and read.get(key) is None:
            fine = _same(getattr(defaults, _IN_CONFIG[key], None), value, head)
        else:
            fine = key in read or key in _HARMLESS  # Named there for None, it is left out on purpose.
        if not fine:
            lost.append(f"{key} ({value})")
    lost += [name for name in head.tensors if name.startswith("rope_factors_")]
    if lost:
        raise UsageError(
            f"{shown(head.path)} says what transformers doesn't read from GGUF, so it would be another model: "
            f"{', '.join(lost)}; give the folder or hub id that it was made from"
        )


def _same(ours: object, value: object, head: GgufHead) -> bool:
    reach = head.of_architecture().get("context_length", 0)
    if ours is None and isinstance(value, int) and isinstance(reach, int):
        return value >= reach > 0 or value == 0  # A window wider than the context is none.
    return bool(ours == value)


def _config_of(named: str) -> Config:
    import transformers

    try:
        return transformers.AutoConfig.for_model(named)
    except ValueError:
        return None


def _kinds() -> dict[str, int]:
    from gguf import GGMLQuantizationType

    return {kind.name: int(kind) for kind in GGMLQuantizationType}


def _sizes() -> dict[int, tuple[int, int]]:
    from gguf import GGML_QUANT_SIZES

    return {int(kind): sizes for kind, sizes in GGML_QUANT_SIZES.items()}
