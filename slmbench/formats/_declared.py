"""A registered function as a format; a plugin's behind a boundary that says whose fault it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from slmbench.errors import HookError, SlmbenchError, UsageError, did_you_mean
from slmbench.formats._base import Format, FormatFault, Rendered, eos_ids
from slmbench.registry import Registered

KINDS = ("completion", "turns", "object")
_FUNCTIONS = ("write", "read", "stop", "partial", "ends_turn", "template_of")
_FACTS = (*_FUNCTIONS, "kind", "special_tokens")


def format_of(entry: Registered) -> Format:
    """The format of a registered function. Raises UsageError for facts that a format doesn't have."""
    facts = dict(entry.facts)
    for key in facts:
        if key not in _FACTS:
            raise UsageError(f"{entry.where}: format {entry.name!r} has no {key!r}{did_you_mean(key, _FACTS)}")
    if (kind := facts.get("kind", "completion")) not in KINDS:
        raise UsageError(f"{entry.where}: format {entry.name!r}: kind is {kind!r}{did_you_mean(str(kind), KINDS)}")
    render: Callable[..., Any] = entry.function
    if entry.plugin:
        render = partial(_rendered, entry)
        for name in _FUNCTIONS:
            if facts.get(name) is not None:
                facts[name] = partial(_called, entry, name, facts[name])
    facts.setdefault("special_tokens", None)
    facts.setdefault("ends_turn", eos_ids)
    return Format(name=entry.name, version=entry.version, render=render, plugin=entry.plugin, **facts)


def _rendered(entry: Registered, *given: object) -> Rendered:
    made = _called(entry, "render", entry.function, *given)
    if isinstance(made, Rendered):
        return made
    text, delimiter = made if isinstance(made, tuple) and len(made) == 2 else (made, "")
    if not isinstance(text, str) or not isinstance(delimiter, str):
        raise _fault(entry, f"render: expected a text, or (text, delimiter); got {type(made).__name__}")
    return Rendered(text, delimiter)


def _called(entry: Registered, name: str, function: Callable[..., Any], *given: object) -> object:
    try:
        made = function(*given)
    except SlmbenchError:
        raise
    except (Exception, SystemExit) as error:
        if name == "read" and isinstance(error, ValueError):  # What came back isn't in this format.
            raise FormatFault(str(error)) from error
        raise _fault(entry, f"{name}: {type(error).__name__}: {error}", error) from error
    if name in ("write", "read") and not isinstance(made, str):
        raise _fault(entry, f"{name}: expected a text, got {type(made).__name__}")
    return made


def _fault(entry: Registered, what: str, error: BaseException | None = None) -> HookError:
    return HookError(f"{entry.place_of(error)}: format {entry.name!r}: {what}")
