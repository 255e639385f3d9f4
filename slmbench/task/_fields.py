"""What a row's fields say: values by path, lists of texts, and the inputs that toon writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slmbench.errors import DataError, did_you_mean
from slmbench.schema import PromptSpec
from slmbench.templates import Template
from slmbench.texts import NotText, as_text, to_string


def field_at(fields: Mapping[str, Any], path: str, key: str) -> Any:
    """The value of a field, with dots into structs. key: the declaration's, for the error. Raises DataError."""
    value: Any = fields
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            hint = did_you_mean(part, value) if isinstance(value, Mapping) else ""
            raise DataError(f"{key} names {path!r}, which the row lacks{hint}")
        value = value[part]
    return value


def texts_at(fields: Mapping[str, Any], path: str, key: str) -> tuple[str, ...]:
    """A field that is a list of texts or numbers. Raises DataError where it is anything else, or has such a value."""
    texts = field_at(fields, path, key)
    if not isinstance(texts, Sequence) or isinstance(texts, str | bytes):
        raise DataError(f"{key}: expected a list of texts, got {type(texts).__name__}")
    try:
        return tuple(as_text(text, f"{path}[{number}]") for number, text in enumerate(texts))
    except NotText as error:
        raise DataError(f"{key}: expected a list of texts: {error}") from error


def inputs_of(prompt: PromptSpec, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The user's part as flat columns: those declared, else the fields that `user` names.

    A list becomes columns name_1, name_2 ..., a struct name_key: nested values cost more tokens in toon than in JSON.
    """
    if prompt.inputs is not None:
        return {name: Template(source).render(fields) for name, source in prompt.inputs.items()}
    flat: dict[str, Any] = {}
    for name in Template(prompt.user).names_in_order:
        for column, value in _flattened(name, fields[name]) if name in fields else ():
            if column in flat:
                raise DataError(f"two fields make the input {column!r}; declare prompt.inputs")
            flat[column] = value
    return flat


def _flattened(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flattened(f"{name}_{key}", inner)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value, 1):
            yield from _flattened(f"{name}_{number}", inner)
    elif value is None or isinstance(value, str | int | float):
        yield name, "" if value is None else value
    else:
        try:
            yield name, to_string(value)
        except NotText as error:
            raise DataError(f"prompt.inputs: {error}") from error
