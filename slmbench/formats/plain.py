"""The bare text of a prompt, laid out as lm-eval lays out its own tasks: shots two line breaks apart."""

from __future__ import annotations

from typing import Any

from slmbench.formats._base import Format, Rendered, eos_ids
from slmbench.values import Prompt

SYSTEM_DELIMITER = "\n\n"


def _question(user: str, prefix: str) -> str:
    return f"{user}\n{prefix}" if prefix else user


def _render(prompt: Prompt, tokenizer: Any) -> Rendered:
    parts = [
        _question(shot.user, prompt.prefix) + prompt.delimiter + shot.target.text + prompt.shot_delimiter
        for shot in prompt.shots
    ]
    system = prompt.system + SYSTEM_DELIMITER if prompt.system else ""
    return Rendered(system + "".join(parts) + _question(prompt.user, prompt.prefix), prompt.delimiter)


PLAIN = Format(name="plain", version="2", special_tokens=None, render=_render, ends_turn=eos_ids)
