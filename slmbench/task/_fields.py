"""What a row's fields say: values by path, choices, the gold one, references, and the inputs that toon writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slmbench.errors import DataError, did_you_mean
from slmbench.schema import PromptSpec, TaskSpec
from slmbench.templates import Template


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
    """A field that is a list of texts. Raises DataError where it is anything else."""
    texts = field_at(fields, path, key)
    if not isinstance(texts, Sequence) or isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise DataError(f"{key}: expected a list of texts, got {type(texts).__name__}")
    return tuple(texts)


def choices_of(spec: TaskSpec, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The options of a row, at least two, none of them empty."""
    if isinstance(spec.choices, list):
        choices = tuple(Template(source).render(fields) for source in spec.choices)
    else:
        choices = texts_at(fields, spec.choices or "", "choices")
    if len(choices) < 2 or any(not choice for choice in choices):
        raise DataError(f"choices: expected at least two texts, none of them empty, got {list(choices)!r}")
    return choices


def gold_of(spec: TaskSpec, fields: Mapping[str, Any], choices: tuple[str, ...]) -> int:
    """The index of the right option: `gold` is a label, where there are labels, else an index or an option's text."""
    text = Template(spec.gold or "").render(fields).strip()
    if spec.labels is not None:
        labels = tuple(spec.labels) if isinstance(spec.labels, list) else texts_at(fields, spec.labels, "labels")
        # A task of five labels may have rows of three choices.
        labels = labels[: len(choices)] if isinstance(spec.labels, list) else labels
        if len(labels) != len(choices):
            raise DataError(f"labels: {len(labels)} of them for {len(choices)} choices")
        if labels.count(text) != 1:
            raise DataError(f"gold: {text!r} is not exactly one of the labels {list(labels)!r}")
        return labels.index(text)
    as_index = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else len(choices)
    if as_index < len(choices) and text in choices and choices[as_index] != text:
        raise DataError(f"gold: {text!r} is an index and, elsewhere, one of the choices; declare 'labels'")
    if as_index < len(choices):
        return as_index
    if choices.count(text) == 1:
        return choices.index(text)
    raise DataError(f"gold: {text!r} is neither an index below {len(choices)} nor exactly one of the choices")


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
        yield name, json.dumps(value, default=str, ensure_ascii=False)
