"""What all specs share: strict types, no unknown keys, and pydantic's errors told in the file's own lines."""

from __future__ import annotations

import re
from typing import Annotated, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from slmbench.errors import DeclarationError, Problem, did_you_mean
from slmbench.values import Model
from slmbench.yamlfile import Document, Location

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def plain_name(value: str) -> str:
    """The value itself where it is a name that a declaration can have. Raises ValueError saying the rule."""
    if not NAME.fullmatch(value) or value.endswith("."):
        raise ValueError("a name has letters, digits, '.', '_' and '-' alone, and starts with a letter or digit")
    return value


# What pydantic calls these names its own types; a person who writes YAML knows others.
_EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "literal_error": "{expected}",
}

Name = Annotated[str, AfterValidator(plain_name)]


class Misfits(ValueError):
    """Keys that are sound alone and don't fit together. faults: (location inside the block, message) each."""

    def __init__(self, faults: list[tuple[Location, str]]) -> None:
        self.faults = faults
        super().__init__("; ".join(message for _, message in faults))


class Spec(BaseModel):
    """Base of every declaration: unknown keys are errors and nothing is coerced (`"5"` is not a number)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


SpecT = TypeVar("SpecT", bound=Spec)


def parse(model: type[SpecT], document: Document) -> SpecT:
    """Validates a document's data. Raises DeclarationError with every problem, each at its line and column."""
    if not isinstance(document.data, dict):
        got = "an empty file" if document.data is None else type(document.data).__name__
        raise DeclarationError([document.problem((), f"expected keys and values, got {got}")])
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        raise DeclarationError(_problems(model, document, error)) from None


def _problems(model: type[Spec], document: Document, error: ValidationError) -> list[Problem]:
    problems: list[Problem] = []
    seen: set[str] = set()
    for item, expected in _told_once(document, error.errors(include_url=False)):
        location = _in_document(document, item["loc"])
        if item["type"] == "extra_forbidden":
            key = str(item["loc"][-1])
            message = f"unknown key {key!r}{did_you_mean(key, _keys_at(model, item['loc'][:-1]))}"
        elif item["type"] == "missing":
            # The mark of the enclosing block; the key itself is not there.
            message = f"missing key {str(item['loc'][-1])!r}"
        elif item["type"] == "value_error":
            raised = item["ctx"]["error"]
            problems += [document.problem((*location, *inside), said) for inside, said in getattr(raised, "faults", ())]
            if isinstance(raised, Misfits):
                continue
            message = str(raised)
        else:
            where = ".".join(str(part) for part in location)
            said = item["msg"][:1].lower() + item["msg"][1:]
            wanted = f"expected {expected}" if expected else said
            # YAML reads a bare yes, no, on or off as true or false.
            quote = (
                "; put quotes around it" if item["type"] == "string_type" and isinstance(item["input"], bool) else ""
            )
            message = f"{where}: {wanted}, got {_short(item['input'])}{quote}"
        problem = document.problem(location, message)
        if str(problem) not in seen:
            seen.add(str(problem))
            problems.append(problem)
    return sorted(problems, key=lambda problem: (problem.line, problem.column))


def _in_document(document: Document, loc: Location) -> Location:
    # Pydantic puts the names of union members into a location; those are in no file.
    location: Location = ()
    for part in loc:
        if (*location, part) in document.marks:
            location = (*location, part)
    return location


def _told_once(document: Document, items: list[ErrorDetails]) -> list[tuple[ErrorDetails, str]]:
    """The errors with what was expected, those of a union's members made one if none of them takes this kind of value.

    `dataset: {hubb: x}` fails both as a name and as a block of keys; only the second is news.
    """
    places = [_in_document(document, item["loc"]) for item in items]
    of_members = [
        item["type"] in _EXPECTED and len(item["loc"]) > len(place) and item["loc"][-1] not in place[-1:]
        for item, place in zip(items, places, strict=True)
    ]
    news = {place for place, of_member in zip(places, of_members, strict=True) if not of_member}
    kept: list[tuple[ErrorDetails, list[str]]] = []
    merged: dict[Location, list[str]] = {}
    for item, place, of_member in zip(items, places, of_members, strict=True):
        expected = [_EXPECTED[item["type"]].format(**item.get("ctx", {}))] if item["type"] in _EXPECTED else []
        if of_member and place in merged:
            merged[place] += expected
        elif not of_member:
            kept.append((item, expected))
        elif place not in news and not any(other[: len(place)] == place != other for other in places):
            merged[place] = expected
            kept.append((item, expected))
    return [(item, " or ".join(expected)) for item, expected in kept]


def _keys_at(model: Model, loc: tuple[object, ...]) -> list[str]:
    """The keys that a spec knows at a location; empty where the location leads elsewhere."""
    for part in loc:
        fields = getattr(model, "model_fields", None)
        if isinstance(part, int) or fields is None or part not in fields:
            continue
        model = _spec_inside(fields[part].annotation)
    return sorted(getattr(model, "model_fields", {}))


def _spec_inside(annotation: object) -> object:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, list, dict, Annotated) or get_args(annotation):
        for inner in get_args(annotation):
            found = _spec_inside(inner)
            if found is not None:
                return found
    return None


def _short(value: object) -> str:
    text = repr(value)
    kind = type(value).__name__
    return f"{kind} {text if len(text) <= 60 else text[:57] + '...'}"
