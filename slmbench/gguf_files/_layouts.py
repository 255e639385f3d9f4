"""Which transformers classes are written as GGUF files, and where llama.cpp has their tensors.

Source of names: llama.cpp's own package gguf. Of how a class's tensors lie: llama.cpp, conversion/llama.py,
conversion/qwen.py and conversion/phi.py, as they were in 2026.
"""

from __future__ import annotations

import functools
from typing import Any

from attrs import frozen

from slmbench.errors import UsageError
from slmbench.values import Array, Config

ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Phi3ForCausalLM": "phi3",
}
"""transformers class -> llama.cpp's `general.architecture`."""

# llama.cpp turns neighbouring numbers of these together where transformers turns the halves of a head.
_TURNED = {"llama": ("attn_q", "attn_k")}


@frozen
class GgufLayout:
    """Of a model what its tensors are named and turned by.

    architecture: llama.cpp's name, of those in ARCHITECTURES. layers: of the decoder. heads, kv_heads: of one layer.
    tied: whether the head is the embeddings, and has no tensor of its own.
    """

    architecture: str
    layers: int
    heads: int
    kv_heads: int
    tied: bool

    def place(self, module: str) -> str | None:
        """`blk.3.attn_q` for `model.layers.3.self_attn.q_proj`; None for what llama.cpp has no tensor of."""
        name: str | None = _names(self.architecture, self.layers).get_name(module)
        return None if name == "output" and self.tied else name

    def turned(self, place: str, rows: Array) -> Array:
        """The rows of a weight, a bias or the outer side of a LoRA as llama.cpp has them. rows: (outputs, ...)."""
        kind = place.rpartition(".")[2]
        if kind not in _TURNED.get(self.architecture, ()):
            return rows
        heads = self.heads if kind == "attn_q" else self.kv_heads
        half = rows.shape[0] // heads // 2
        return rows.reshape(heads, 2, half, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def class_of(config: Config) -> str:
    """The transformers class that a config is of, as its files name it."""
    return str((config.architectures or [type(config).__name__])[0])


def layout_of(config: Config) -> GgufLayout:
    """The layout of a model with a transformers config. Raises UsageError for a class that isn't written here."""
    name = class_of(config)
    if name not in ARCHITECTURES:
        raise UsageError(f"no GGUF file is written of a {name}, but of {', '.join(sorted(ARCHITECTURES))}")
    return GgufLayout(
        ARCHITECTURES[name],
        int(config.num_hidden_layers),
        int(config.num_attention_heads),
        int(config.num_key_value_heads or config.num_attention_heads),
        bool(config.tie_word_embeddings),
    )


@functools.cache
def _names(architecture: str, layers: int) -> Any:
    import gguf

    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    return gguf.get_tensor_name_map(arch, layers)
