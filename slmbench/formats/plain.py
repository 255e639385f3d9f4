"""The bare text of a prompt, laid out as lm-eval lays out its own tasks: shots two line breaks apart."""

from __future__ import annotations

from typing import Any

from slmbench.formats._base import Format, Rendered, eos_ids
from slmbench.values import Prompt

SHOT_DELIMITER = "\n\n"
ANSWER_DELIMITER = " "


def _question(user: str, prefix: str) -> str:
    return f"{user}\n{prefix}" if prefix else user


def _render(prompt: Prompt, tokenizer: Any) -> Rendered:
    parts = [prompt.system] if prompt.system else []
    parts += [_question(shot.user, prompt.prefix) + ANSWER_DELIMITER + shot.answer for shot in prompt.shots]
    parts.append(_question(prompt.user, prompt.prefix))
    return Rendered(SHOT_DELIMITER.join(parts), ANSWER_DELIMITER)


PLAIN = Format(name="plain", version="1", special_tokens=None, render=_render, ends_turn=eos_ids)
