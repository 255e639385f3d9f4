"""lm-eval asks for a chat template, and writes no prompt of ours with it."""

from __future__ import annotations

from typing import Any


def resolve_chat_template(tokenizer: Any, chat_template: Any, tools: Any, *, model_config: Any) -> None:
    """None."""
