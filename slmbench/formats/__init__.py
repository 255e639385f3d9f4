"""Formats: how a prompt is written down for a model."""

from __future__ import annotations

from functools import cache

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
from slmbench.formats._declared import format_of
from slmbench.formats.chat import chat_template_of, dated, messages_of
from slmbench.headers import own_headers
from slmbench.registry import Registry, find, own_entry

__all__ = [
    "Format",
    "FormatFault",
    "Rendered",
    "chat_template_of",
    "dated",
    "decoder_ids",
    "encoder_decoder_ids",
    "format_names",
    "load_format",
    "messages_of",
    "pair_ids",
    "prompt_ids",
    "training_ids",
]


def format_names(plugins: Registry | None = None) -> list[str]:
    """slmbench's own formats, plain first, and then what plugins bring."""
    own = sorted((header.name for header in own_headers("format")), key=lambda name: (name != "plain", name))
    return [*own, *(plugins.names("format") if plugins is not None else ())]


def load_format(name: str, plugins: Registry | None = None) -> Format:
    """The format of a name. plugins: what else is known. Raises UsageError with the nearest known one."""
    return _own(name) or format_of(find("format", name, plugins))


@cache
def _own(name: str) -> Format | None:
    entry = own_entry("format", name)
    return None if entry is None else format_of(entry)
