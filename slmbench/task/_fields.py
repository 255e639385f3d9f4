"""What a row's fields say: values by path, lists of texts, and the inputs that toon writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slmbench.errors import DataError, did_you_mean
from slmbench.prints import LOOPED, Path, Printed
from slmbench.schema import PromptSpec
from slmbench.templates import Template
from slmbench.texts import NotText, as_text
from slmbench.values import JsonObject


def field_at(fields: Mapping[str, object], path: str, key: str) -> object:
    """The value of a field, with dots into structs. key: the declaration's, for the error. Raises DataError."""
    value: Any = fields
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            hint = did_you_mean(part, value) if isinstance(value, Mapping) else ""
            raise DataError(f"{key} names {path!r}, which the row lacks{hint}")
        value = value[part]
    return value


def texts_at(fields: Mapping[str, object], path: str, key: str) -> tuple[str, ...]:
    """A field that is a list of texts or numbers. Raises DataError if it is anything else, or has such a value."""
    texts = field_at(fields, path, key)
    if not isinstance(texts, Sequence) or isinstance(texts, str | bytes):
        raise DataError(f"{key}: expected a list of texts, got {type(texts).__name__}")
    try:
        return tuple(as_text(text, f"{path}[{number}]") for number, text in enumerate(texts))
    except NotText as error:
        raise DataError(f"{key}: expected a list of texts: {error}") from error


def inputs_of(prompt: PromptSpec, fields: Mapping[str, object]) -> JsonObject:
    """The user's part as flat columns: those declared, else what `user` prints of the row's fields, and no more.

    A column is named by the field's path: `qa.question` is qa_question, `turns[0].text` turns_1_text. What a loop
    prints is numbered, and so are the pieces of a text that is printed in several.
    """
    if prompt.inputs is not None:
        return {name: Template(source).render(fields) for name, source in prompt.inputs.items()}
    flat: dict[str, object] = {}
    for column, value in _named(Template(prompt.user).printed(fields)):
        if column in flat:
            raise DataError(f"two fields make the input {column!r}; declare prompt.inputs")
        # Of its own type, as `{{ n }}` of a number is.
        flat[column] = value if type(value) in (str, int, float) else as_text(value, column)
    return flat


def _named(printed: Sequence[Printed]) -> Iterator[tuple[str, object]]:
    """(column, value) in the order of printing. What a loop prints is there each time; else a value is there once, and
    of a field that is printed whole no piece."""
    whole = {one.path for one in printed if one.whole}
    seen: dict[Path, list[object]] = {}
    for one in printed:
        before = seen.setdefault(one.path, [])
        looped = LOOPED in one.path
        if looped or ((one.whole or one.path not in whole) and one.value not in before):
            before.append(one.value)
            yield _column(one.path, len(before)), one.value


def _column(path: Path, number: int) -> str:
    """The name of the number-th value of a path. Lists count from 1; from the end: last, last_2 ..."""
    parts: list[str] = []
    numbered = False
    for part in path:
        if part == LOOPED:
            parts += [] if numbered else [str(number)]
            numbered = True
        elif isinstance(part, int):
            parts.append(str(part + 1) if part >= 0 else "last" if part == -1 else f"last_{-part}")
        else:
            parts.append(part)
    return "_".join(parts) if numbered or number == 1 else f"{'_'.join(parts)}_{number}"
