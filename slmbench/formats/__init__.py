"""Formats: how a prompt is written down for a model."""

from __future__ import annotations

from slmbench.errors import UsageError, did_you_mean
from slmbench.formats._base import (
    Format,
    FormatFault,
    Rendered,
    decoder_ids,
    encoder_decoder_ids,
    pair_ids,
    prompt_ids,
    training_ids,
)
from slmbench.formats.chat import CHAT, chat_template_of, dated, messages_of
from slmbench.formats.plain import PLAIN
from slmbench.formats.toon import TOON

__all__ = [
    "Format",
    "FormatFault",
    "Rendered",
    "chat_template_of",
    "dated",
    "decoder_ids",
    "encoder_decoder_ids",
    "load_format",
    "messages_of",
    "pair_ids",
    "prompt_ids",
    "training_ids",
]


def load_format(name: str) -> Format:
    """The format of a name. Raises UsageError with the nearest known one."""
    formats = {format.name: format for format in (PLAIN, CHAT, TOON)}
    if name not in formats:
        raise UsageError(f"unknown format {name!r}{did_you_mean(name, formats)}")
    return formats[name]
