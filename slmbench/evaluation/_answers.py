"""What a journal may hold of a finished request: the only way from a file back to a score."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slmbench.foreign import Amount, AnyText, Count, Foreign, parse

# A sum of logarithms of probabilities, but for what float32 leaves of a zero.
_NOT_ABOVE = 1e-3


class _Answer(Foreign):
    tokens_in: Count
    tokens_out: Count
    truncated: bool
    latency_ms: Amount
    share_ms: Amount
    plain: str | None = None


class _ScoredChoice(_Answer):
    """The answer to a choice."""

    loglikelihood: float = Field(gt=-1e300, le=_NOT_ABOVE)
    greedy: bool


class _WrittenText(_Answer):
    """A text."""

    text: AnyText
    finish_reason: Literal["stop", "eos", "length"]


def check_scored(key: str, value: object) -> None:
    """Raises FileError for an entry that is no answer to a choice."""
    parse(_ScoredChoice, value, "", at="value")


def check_answer(key: str, value: object) -> None:
    """Raises FileError for an entry that is neither a text nor how likely a target is."""
    is_target = isinstance(value, dict) and "loglikelihood" in value
    parse(_ScoredChoice if is_target else _WrittenText, value, "", at="value")
