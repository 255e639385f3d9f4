"""What a journal may hold of a finished request: the only way from a file back to a score."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slmbench.foreign import Amount, AnyText, Count, Foreign, parse
from slmbench.values import JsonObject

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


def is_scored(entry: JsonObject) -> bool:
    """Whether an entry is of something scored, and not of a text."""
    return "loglikelihood" in entry and "text" not in entry


def check_written(key: str, value: object) -> None:
    """Raises FileError for an entry that is no text."""
    parse(_WrittenText, value, "", at="value")


def check_either(key: str, value: object) -> None:
    """Raises FileError for an entry that is neither a text nor how likely a target is."""
    (check_scored if isinstance(value, dict) and is_scored(value) else check_written)(key, value)
