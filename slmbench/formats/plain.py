"""The bare text of a prompt, laid out as lm-eval lays out its own tasks: shots two line breaks apart."""

from __future__ import annotations

from slmbench.formats._base import Rendered
from slmbench.registry import format
from slmbench.values import Prompt, Tokenizer

SYSTEM_DELIMITER = "\n\n"


def _question(user: str, prefix: str) -> str:
    return f"{user}\n{prefix}" if prefix else user


@format("plain", summary="The bare text of the prompt, as lm-eval's own tasks send it.", version="2")
def render(prompt: Prompt, tokenizer: Tokenizer) -> Rendered:
    """The shots and the question as one text, the answer's prefix behind it."""
    parts = [
        _question(shot.user, prompt.prefix) + prompt.delimiter + shot.target.text + prompt.shot_delimiter
        for shot in prompt.shots
    ]
    system = prompt.system + SYSTEM_DELIMITER if prompt.system else ""
    return Rendered(system + "".join(parts) + _question(prompt.user, prompt.prefix), prompt.delimiter)
