"""Values of a declaration that somebody replaces by name: `--set key=value`, a variant, a sweep, a twin."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from slmbench.errors import DeclarationError, Problem
from slmbench.values import JsonObject
from slmbench.yamlfile import Document, Location, parse_yaml

# Of each pair a recipe has one.
_LENGTHS = ("optim.steps", "optim.epochs")
_EITHER = (_LENGTHS, ("evaluation.suite", "evaluation.tasks"))
_OWN_LENGTHS = ("steps", *_LENGTHS)
"""How long an adapter of its own is trained."""
_INITIAL = "init_adapter"
"""What is gone on from: one thing, whichever of its keys is given."""


def assign(data: JsonObject, path: Sequence[str], value: object) -> str | None:
    """Puts a value into nested keys; says what is wrong where the path leads through something else."""
    inner = data
    for i, part in enumerate(path[:-1]):
        if inner.get(part) is None:  # Left out, or null: a block of its own begins here.
            inner[part] = {}
        inner = inner[part]
        if not isinstance(inner, dict):
            return f"{'.'.join(path[: i + 1])!r} has no keys"
    inner[path[-1]] = value
    return None


def assignments_of(overrides: Sequence[str] | Mapping[str, object], blame: str) -> list[tuple[str, str, object]]:
    """(the text as it was given, its key, its value) of each override. Raises DeclarationError."""
    if isinstance(overrides, Mapping):
        return [(f"{key}={value}", key, value) for key, value in overrides.items()]
    found: list[tuple[str, str, object]] = []
    problems: list[Problem] = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not all(key.strip().split(".")):
            problems.append(Problem(blame, 0, 0, f"{text!r}: expected key=value, as in optim.lr=1e-4"))
            continue
        try:
            found.append((text, key.strip(), parse_yaml(value.encode(), f"{blame} {key}").data))
        except DeclarationError as error:
            problems += error.problems
    if problems:
        raise DeclarationError(problems)
    return found


def with_room(document: Document, changes: Mapping[str, object]) -> Document:
    """A recipe without what changes, dotted path -> value, put something else in the place of.

    Steps take the place of epochs, a suite that of tasks, and the other way round; what is given for all takes that of
    what adapters have of their own.
    """
    data: Any = copy.deepcopy(document.data)
    coming = {path for path, value in changes.items() if value is not None}
    for pair in _EITHER:
        if len(coming.intersection(pair)) == 1:
            _take_out(data, pair)
    of_all = {leaf for path, value in changes.items() for leaf in _leaves(path, value)}
    if of_all.intersection(_LENGTHS):
        of_all |= {*_OWN_LENGTHS}
    if any(path.partition(".")[0] == _INITIAL for path in changes):
        of_all.add(_INITIAL)
    adapters = data.get("adapters") if isinstance(data, dict) else None
    for name, adapter in adapters.items() if isinstance(adapters, dict) else ():
        own = {f"adapters.{name}.{path}" for path in _OWN_LENGTHS}
        _take_out(adapter, of_all | ({*_OWN_LENGTHS} if coming.intersection(own) else set()))
    return Document(document.path, data, document.marks)


def _take_out(block: object, paths: Iterable[str]) -> None:
    for path in paths:
        outer, _, key = path.rpartition(".")
        inner = block.get(outer) if isinstance(block, dict) and outer else block
        if isinstance(inner, dict) and (outer or key in ("steps", _INITIAL)):
            inner.pop(key, None)


def _leaves(path: str, value: object) -> Iterator[str]:
    """The dotted paths of the settings that a value at a path gives."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(f"{path}.{key}", inner)
    else:
        yield path


def told_of_overrides(data: object, assignments: Sequence[tuple[str, str, object]], blame: str) -> Document:
    """Changed data whose faults are told of the overrides: the file alone was sound, and no line of it is to blame."""
    said = " ".join(text for text, _, _ in assignments)
    return Document(f"{blame} {said}", data, dict.fromkeys(locations(data), (0, 0)))


def locations(data: object, location: Location = ()) -> Iterator[Location]:
    yield location
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for part, value in inner:
        yield from locations(value, (*location, part))
