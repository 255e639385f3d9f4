"""The declaration of a format: blocks of text around what is asked and what is answered."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slmbench.schema._base import Spec


class BlocksSpec(Spec):
    """A format as data. kind: turns, where a task's own prompts and stops of a chat hold, or completion.

    system, prompt: templates over `system` and `user`; the first stands before all, where a task has a system text.
    end: closes an answer, and the tokenizer's EOS stands after it. between: from an answer's end to the next prompt of
    worked examples. stop: the stop strings of a generation, the task's own behind them.
    """

    summary: str = Field(min_length=1)
    source: str = ""
    version: int = Field(ge=0)
    kind: Literal["turns", "completion"] = "turns"
    system: str = "{{ system }}\n\n"
    prompt: str = Field(min_length=1)
    end: str = ""
    between: str = "\n\n"
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
