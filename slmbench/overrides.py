"""Values of a declaration that somebody replaces by name: `--set key=value`, a variant, a sweep, a twin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from slmbench.errors import DeclarationError, Problem
from slmbench.values import JsonObject
from slmbench.yamlfile import Document, Location, parse_yaml


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


def told_of_overrides(data: object, assignments: Sequence[tuple[str, str, object]], blame: str) -> Document:
    """Changed data whose faults are told of the overrides: the file alone was sound, and no line of it is to blame."""
    said = " ".join(text for text, _, _ in assignments)
    return Document(f"{blame} {said}", data, dict.fromkeys(locations(data), (0, 0)))


def locations(data: object, location: Location = ()) -> Iterator[Location]:
    yield location
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for part, value in inner:
        yield from locations(value, (*location, part))
