"""A task that a person asks: which texts its prompt is made of, and the example that typed ones make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from slmbench.errors import DataError, UsageError
from slmbench.formats import Format
from slmbench.prints import LOOPED, Path
from slmbench.schema import FormPromptSpec
from slmbench.task._task import Task
from slmbench.templates import Template
from slmbench.values import Example, JsonObject


@frozen
class Blank:
    """A part of a task's prompt that is to be filled in. path: of the row's field. example: what a golden row has."""

    path: Path
    example: object

    @property
    def name(self) -> str:
        """As a person is asked for it; items of a list count from 1."""
        return " ".join(str(part + 1) if isinstance(part, int) else part for part in self.path)

    def value(self, text: str) -> object:
        """What was typed, as the field has it. Raises UsageError for a text where a number is wanted."""
        if isinstance(self.example, list):
            return [text]
        if isinstance(self.example, bool) or not isinstance(self.example, int | float):
            return text
        try:
            return type(self.example)(text)
        except ValueError:
            raise UsageError(f"{self.name} is a number, as {self.example}; {text[:40]!r} is none") from None


def blanks_of(task: Task, format: Format) -> tuple[Blank, ...]:
    """What a prompt of the task prints of a row, in its order, by what a golden row prints.

    Raises UsageError for a task whose prompts a person can't fill in.
    """
    task = task.in_format(format)
    spec = task.spec.prompt
    rows = task.examples(task.spec.split)
    if any(row.continuation is not None for row in rows):
        raise UsageError(
            f"task {task.name!r} compares texts that are given, each before a continuation: it asks nothing"
        )
    templates = [spec.system, spec.user, *(spec.inputs or {}).values()]
    templates += [spec.prefix] if isinstance(spec, FormPromptSpec) else []
    found = [_blanks(task.name, templates, row.fields) for row in rows]
    return min(found, key=len)


def typed_example(task: Task, blanks: Sequence[Blank], texts: Sequence[str]) -> Example:
    """An example that is asked and has no answer. texts: as many as there are blanks. Raises UsageError.

    What a row has beside what is printed is empty.
    """
    rows = task.examples(task.spec.split)
    fields: JsonObject = {name: _empty(value) for name, value in rows[0].fields.items()}
    for blank, text in zip(blanks, texts, strict=True):
        _put(fields, blank.path, blank.value(text))
    # Whether a target begins with reasoning is seen in prompts of some formats.
    return Example("typed", fields, "", None if rows[0].reasoning is None else "")


def _blanks(task: str, templates: Sequence[str], fields: Mapping[str, object]) -> tuple[Blank, ...]:
    found: dict[Path, Blank] = {}
    for source in templates:
        seen: dict[Path, int] = {}
        for printed in Template(source).printed(fields):
            path = printed.path
            if LOOPED in path:
                at = path.index(LOOPED)
                seen[path] = seen.get(path, -1) + 1
                path = (*path[:at], seen[path], *path[at + 1 :])
            for one in _parted(path, fields):
                value = _value(fields, one)
                if isinstance(value, Mapping) or LOOPED in one:
                    raise UsageError(f"task {task!r} prints {_dotted(one)} as a whole; it can't be asked by hand")
                found.setdefault(one, Blank(one, value))
    return tuple(found.values())


def _parted(path: Path, fields: Mapping[str, object]) -> list[Path]:
    """The paths of fields: one, unless an expression reads several, which stand one after another."""
    try:
        _value(fields, path)
    except DataError:
        starts = [at for at, part in enumerate(path) if part in fields]
        return [path[at:end] for at, end in zip(starts, [*starts[1:], len(path)], strict=True)]
    return [path]


def _value(fields: object, path: Path) -> object:
    for part in path:
        try:
            fields = fields[part]  # type: ignore[index]
        except (LookupError, TypeError):
            raise DataError(f"no field {_dotted(path)}") from None
    return fields


def _put(fields: JsonObject, path: Path, value: object) -> None:
    there: object = fields
    for part, after in zip(path, [*path[1:], None], strict=True):
        if isinstance(there, list):
            assert isinstance(part, int)
            there += [""] * (part + 1 - len(there))
        new = value if after is None else [] if isinstance(after, int) else {}
        old = there[part]  # type: ignore[index]
        if after is None or not isinstance(old, dict | list):
            there[part] = new  # type: ignore[index]
        there = there[part]  # type: ignore[index]


def _empty(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _empty(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return []
    return "" if isinstance(value, str) else value if isinstance(value, bool | int | float) else None


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))
