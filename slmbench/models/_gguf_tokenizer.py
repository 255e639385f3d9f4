"""A GGUF file's way of cutting text into words, where transformers reads the vocabulary and leaves the cuts out."""

from __future__ import annotations

from slmbench.models._gguf_header import GgufHead
from slmbench.values import Tokenizer

# llama.cpp's names of ways to cut: each digit by itself, then GPT-2's words.
_DIGITS_APART = frozenset({"smollm", "starcoder", "refact", "codeshell", "command-r"})
# GPT-2's words, which transformers takes where it knows no name.
_AS_GPT2 = frozenset({"gpt-2", "phi-2", "jina-es", "jina-de", "mpt", "olmo", "default", ""})


def set_cuts(tokenizer: Tokenizer, head: GgufHead) -> list[str]:
    """Has a tokenizer cut text as the file says; returns what a person should know where that can't be told."""
    from tokenizers import pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    if head.metadata.get("tokenizer.ggml.model") != "gpt2":
        return []
    name = str(head.metadata.get("tokenizer.ggml.pre", "default"))
    if name in _DIGITS_APART:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    elif name not in GGUF_PRE_TOKENIZER_SPLITS and name not in _AS_GPT2:
        return [
            f"the GGUF file cuts text into words by {name!r}, which isn't known here; GPT-2's way is taken, and tokens "
            "may differ from those that the model was trained on"
        ]
    return []
