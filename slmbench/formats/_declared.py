"""A registered function as a format; a plugin's behind a boundary that says whose fault it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from functools import partial

from slmbench.errors import SlmbenchError
from slmbench.formats._base import Format, FormatFault, Rendered, eos_ids
from slmbench.registry import Registered

_RESULTS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    **dict.fromkeys(("write", "read", "template_of"), (lambda made: isinstance(made, str), "a text")),
    "partial": (lambda made: made is None or isinstance(made, str), "a text or None"),
    "stop": (lambda made: _all(made, lambda one: isinstance(one, str) and one != ""), "a list of texts, none empty"),
    "ends_turn": (lambda made: _all(made, lambda one: type(one) is int and one >= 0), "a list of token ids"),
}
"""What a format's functions return."""


def _all(made: object, fits: Callable[[object], bool]) -> bool:
    return isinstance(made, list | tuple) and all(map(fits, made))


def format_of(entry: Registered) -> Format:
    """The format of a registered function."""
    facts = {name: fact for name, fact in entry.facts.items() if fact is not None}
    render: Callable[..., Rendered] = entry.function
    if entry.plugin:
        render = partial(_rendered, entry)
        for name in _RESULTS.keys() & facts.keys():
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
        raise entry.fault(f"render: expected a text, or (text, delimiter); got {type(made).__name__}")
    return Rendered(text, delimiter)


def _called(entry: Registered, name: str, function: Callable[..., object], *given: object) -> object:
    try:
        made = function(*given)
    except SlmbenchError:
        raise
    except (Exception, SystemExit) as error:
        if name == "read" and isinstance(error, ValueError):  # What came back isn't in this format.
            raise FormatFault(str(error)) from error
        raise entry.fault(f"{name}: ", error=error) from error
    if name == "render":
        return made
    fits, wanted = _RESULTS[name]
    if not fits(made):
        got = type(made).__name__ if isinstance(made, str) or not isinstance(made, Sized) else repr(made)[:60]
        raise entry.fault(f"{name}: expected {wanted}, got {got}")
    return list(made) if isinstance(made, tuple) else made
