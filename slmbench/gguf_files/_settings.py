"""What a GGUF file says of a model beside its weights: sizes and angles as llama.cpp reads them.

Source: llama.cpp, conversion/base.py, conversion/llama.py, conversion/phi.py and src/llama-hparams.h, as of 2026.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from slmbench.gguf_files._layouts import GgufLayout
from slmbench.values import Array, Config, JsonObject

_PLAIN = ("default", "linear", "yarn")
# Ways to turn positions, by what llama.cpp has of an architecture.
_ROPES = {"llama": (*_PLAIN, "llama3"), "qwen2": _PLAIN, "qwen3": _PLAIN, "phi3": ("default", "longrope")}


def setting_faults(config: Config, layout: GgufLayout) -> list[str]:
    """What of a config no GGUF file of its architecture says, so that it would be another model."""
    faults = []
    rope = _rope(config)
    kind = str(rope.get("rope_type", "default"))
    if any(isinstance(value, dict) for value in rope.values()):
        faults.append("its layers turn positions by different angles (rope_parameters)")
    elif kind not in _ROPES[layout.architecture]:
        faults.append(f"its positions are turned by {kind!r} (rope_parameters)")
    if layout.architecture != "phi3" and _turned_share(config) != 1.0:
        faults.append(f"only {_turned_share(config):g} of each head is turned (partial_rotary_factor)")
    width, even = _head_width(config), int(config.hidden_size) // layout.heads
    if layout.architecture in ("qwen2", "phi3") and width != even:
        faults.append(
            f"its heads are {width} wide (head_dim), and llama.cpp takes hidden_size / heads, which is {even}"
        )
    act = str(getattr(config, "hidden_act", "silu"))
    if act not in ("silu", "swish"):
        faults.append(f"its activation is {act!r} (hidden_act), and llama.cpp takes silu")
    factors = len(rope.get("long_factor") or ()), len(rope.get("short_factor") or ())
    if kind == "longrope" and factors != (_turned_width(config) // 2,) * 2:
        faults.append(f"it has {factors[0]} and {factors[1]} rope factors for {_turned_width(config) // 2} angles")
    return faults


def setting_notices(config: Config) -> list[str]:
    """What llama.cpp computes otherwise of a model, and from where on."""
    window, reach = getattr(config, "sliding_window", None), int(config.max_position_embeddings)
    if getattr(config, "use_sliding_window", True) and isinstance(window, int) and 0 < window < reach:
        return [
            f"the model sees {window:,} tokens back; llama.cpp lets it see all, so longer texts are computed otherwise"
        ]
    return []


def write_settings(writer: Any, layout: GgufLayout, config: Config, rows: int) -> None:
    """Writes a config's sizes and angles with gguf's writer. rows: of the embeddings."""
    rope, phi3 = _rope(config), layout.architecture == "phi3"
    writer.add_block_count(layout.layers)
    writer.add_context_length(int(config.max_position_embeddings))
    writer.add_embedding_length(int(config.hidden_size))
    writer.add_feed_forward_length(int(config.intermediate_size))
    writer.add_head_count(layout.heads)
    writer.add_head_count_kv(layout.kv_heads)
    writer.add_layer_norm_rms_eps(float(config.rms_norm_eps))
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    head_width = getattr(config, "head_dim", None)
    if head_width is not None and not phi3:
        writer.add_key_length(int(head_width))
        writer.add_value_length(int(head_width))
    if layout.architecture == "llama":
        writer.add_vocab_size(rows)
    if phi3 or layout.architecture == "llama":
        writer.add_rope_dimension_count(_turned_width(config))
    if phi3:
        # llama.cpp knows Phi-4 by a window of 0.
        writer.add_sliding_window(int(getattr(config, "sliding_window", None) or 0))
        writer.add_rope_scaling_orig_ctx_len(_original_reach(config))
    _write_scaling(writer, config, rope)


def angle_tensors(config: Config) -> Mapping[str, Array]:
    """name -> one factor an angle, float32, by which llama.cpp divides it: of Llama 3's and Phi-3's ways to scale."""
    import numpy

    rope = _rope(config)
    kind = rope.get("rope_type", "default")
    if kind == "llama3":
        factors = llama3_factors(
            float(rope.get("rope_theta", 10000.0)),
            _head_width(config),
            float(rope.get("factor", 8.0)),
            low=float(rope.get("low_freq_factor", 1.0)),
            high=float(rope.get("high_freq_factor", 4.0)),
            original=int(rope.get("original_max_position_embeddings", 8192)),
        )
        return {"rope_freqs.weight": numpy.array(factors, dtype=numpy.float32)}
    if kind == "longrope":
        return {
            f"rope_factors_{name}.weight": numpy.array(rope[f"{name}_factor"], dtype=numpy.float32)
            for name in ("long", "short")
        }
    return {}


def llama3_factors(base: float, width: int, factor: float, *, low: float, high: float, original: int) -> list[float]:
    """By what Llama 3 divides each of a head's width / 2 angles. Source: Grattafiori et al. 2024, arXiv:2407.21783."""
    found = []
    for i in range(0, width, 2):
        wavelength = 2 * math.pi * base ** (i / width)
        if wavelength < original / high:
            found.append(1.0)
        elif wavelength > original / low:
            found.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return found


def _write_scaling(writer: Any, config: Config, rope: JsonObject) -> None:
    import gguf

    kind = rope.get("rope_type", "default")
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(float(rope["factor"]))
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(int(rope.get("original_max_position_embeddings", _original_reach(config))))
        for key, add in (
            ("attention_factor", writer.add_rope_scaling_yarn_attn_factor),
            ("beta_fast", writer.add_rope_scaling_yarn_beta_fast),
            ("beta_slow", writer.add_rope_scaling_yarn_beta_slow),
        ):
            if rope.get(key) is not None:
                add(float(rope[key]))
    if kind == "longrope":
        original = _original_reach(config)
        scale = int(config.max_position_embeddings) / original
        attention = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
        writer.add_rope_scaling_attn_factors(float(rope.get("attention_factor") or attention))


def _rope(config: Config) -> JsonObject:
    return dict(getattr(config, "rope_parameters", None) or {})


def _original_reach(config: Config) -> int:
    found = _rope(config).get("original_max_position_embeddings")
    return int(found or getattr(config, "original_max_position_embeddings", None) or config.max_position_embeddings)


def _head_width(config: Config) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _turned_share(config: Config) -> float:
    said = _rope(config).get("partial_rotary_factor", getattr(config, "partial_rotary_factor", None))
    return float(1.0 if said is None else said)


def _turned_width(config: Config) -> int:
    return int(_turned_share(config) * _head_width(config))
