"""Formats: how a prompt is written down for a model."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module

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
from slmbench.formats._declared import format_of
from slmbench.formats.chat import chat_template_of, dated, messages_of
from slmbench.headers import own_headers
from slmbench.registry import Registered, Registry, marked

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
    if name in format_names():
        return _own(name)
    found = plugins.get("format", name) if plugins is not None else None
    if found is None:
        raise UsageError(f"unknown format {name!r}{did_you_mean(name, format_names(plugins))}")
    return format_of(found)


@cache
def _own(name: str) -> Format:
    header = next(header for header in own_headers("format") if header.name == name)
    module = import_module(f"slmbench.formats.{os.path.basename(header.path)[:-3]}")
    entries: list[Registered] = marked(vars(module), header.path, module.__name__, plugin=False)
    return format_of(Registry(entries).find("format", name))
