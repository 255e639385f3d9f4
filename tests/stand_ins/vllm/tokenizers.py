"""Where vLLM has what it loads tokenizers with."""

from __future__ import annotations

from typing import Any


def get_tokenizer(name: str, *, tokenizer_mode: str, trust_remote_code: bool, revision: str | None) -> Any:
    """transformers' own."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(name, local_files_only=True)
