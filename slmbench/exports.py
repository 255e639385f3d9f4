"""Prepared data sets as files: a task's rows as records or as chat messages, for other trainers and other eyes.

A record is a task's inputs, `reasoning` where the mode of the chain of thought has it, and `answer`; of a choice task
`choice_1`, `choice_2` ... where rows have options of their own, and the right one as `answer`. All records of an export
have the same columns.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen

from slmbench.datasets import Rows, fetch_rows
from slmbench.errors import DataError, UsageError
from slmbench.files import write_atomically
from slmbench.formats import load_format, messages_of
from slmbench.formats.toon import encode_toon
from slmbench.paths import shown
from slmbench.task import Task
from slmbench.templates import Template
from slmbench.values import Example

FORMS = ("toon", "chat", "jsonl")
"""toon: one document, a table `rows[N]{columns}:`. chat: a line `{"messages": [...]}` each, as trl takes them. jsonl: a
record a line."""

Record = dict[str, Any]


@frozen
class RowExport:
    """A prepared data set, not written yet. source: of its rows, as in `Rows`."""

    task: str
    split: str
    form: str
    source: str
    rows: int
    data: bytes

    @property
    def ending(self) -> str:
        return ending_of(self.form)


def ending_of(form: str) -> str:
    """How the name of a file of that form ends. Raises UsageError for an unknown form."""
    if form not in FORMS:
        raise UsageError(f"unknown form {form!r}; an export is one of {', '.join(FORMS)}")
    return ".toon" if form == "toon" else ".jsonl"


def export_task(task: Task, form: str, split: str, limit: int | None = None) -> RowExport:
    """The first `limit` rows of a split in a form; this may download.

    Raises UsageError (form, split), OfflineError, or DataError naming the row and column that the form can't say.
    """
    ending_of(form)
    rows = _rows(task, split, limit)
    bare = task.with_shots(0)
    if form == "chat":
        bare = bare.in_format(load_format("chat"))
    examples = [bare.example(row, number, split) for number, row in enumerate(rows.rows)]
    where = f"task {task.name!r}, split {split!r}"
    if form == "chat":
        values: list[Record] = [
            {"messages": messages_of(bare.prompt(example), bare.target(example))} for example in examples
        ]
        _refuse_unwritable([{m["role"]: m["content"] for m in value["messages"]} for value in values], where)
    else:
        values = with_same_columns([record_of(bare, example) for example in examples])
        _refuse_unwritable(values, where)
    write: Callable[[Sequence[Record]], str] = toon_table if form == "toon" else json_lines
    return RowExport(task.name, split, form, rows.source, len(values), write(values).encode())


def record_of(task: Task, example: Example) -> Record:
    """One example as a record. Raises DataError if an input has the name of a column of options or target."""
    record = asked_of(task, example)
    options = {f"choice_{number}": text for number, text in enumerate(_own_options(task, example), 1)}
    clash = sorted(options.keys() & record.keys())
    if clash:
        raise DataError(
            f"task {task.name!r}: an input is called {clash[0]!r}, as a column of the options is; declare prompt.inputs"
        )
    return with_same_columns([record | options])[0]


def asked_of(task: Task, example: Example) -> Record:
    """What formats write of an example, as one record: inputs and target. Options are scored one by one, so not there.

    Raises DataError if an input is called `answer` or `reasoning`.
    """
    record = dict(task.prompt(example).inputs)
    clash = sorted({"answer", "reasoning"} & set(record))
    if clash:
        raise DataError(
            f"task {task.name!r}: an input is called {clash[0]!r}, as a column of the target is; declare prompt.inputs"
        )
    target = task.target(example)
    if target.reasoning is not None:
        record["reasoning"] = target.reasoning
    return record | {"answer": target.answer}


def _own_options(task: Task, example: Example) -> tuple[str, ...]:
    """The options of an example where they differ from row to row; () where all rows have the same, like yes and no."""
    declared = task.spec.choices
    if isinstance(declared, list) and not any(Template(source).names for source in declared):
        return ()
    return example.choices


def with_same_columns(records: Sequence[Record]) -> list[Record]:
    """The records with all columns of any of them, '' where one lacks it; reasoning and answer last.

    Toon makes a table only of rows with the same columns; a key that is sometimes there costs more than its absence.
    """
    columns = dict.fromkeys(column for record in records for column in record)
    last = [column for column in ("reasoning", "answer") if column in columns]
    order = [column for column in columns if column not in last] + last
    return [{column: record.get(column, "") for column in order} for record in records]


def toon_table(records: Sequence[Record]) -> str:
    """One Toon document with the records as a table."""
    return encode_toon({"rows": list(records)}) + "\n"


def json_lines(values: Sequence[object]) -> str:
    """One compact JSON value a line."""
    return "".join(compact_json(value) + "\n" for value in values)


def compact_json(value: object) -> str:
    """JSON without a blank too many, every character as itself."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def write_export(export: RowExport, path: str, *, force: bool = False) -> None:
    """Writes an export, whole or not at all. Raises UsageError as `refuse_path` does."""
    refuse_path(path, export.form, force=force)
    write_atomically(path, export.data)


def refuse_path(path: str, form: str, *, force: bool = False) -> None:
    """Raises UsageError for a folder, a name that doesn't end as the form's files do, and, unless force, a file."""
    if os.path.isdir(path):
        raise UsageError(f"{shown(path)} is a folder; name a file")
    if not path.endswith(ending_of(form)):
        raise UsageError(f"{shown(path)}: name a file that ends in {ending_of(form)}, which tells what it is")
    if os.path.lexists(path) and not force:
        raise UsageError(f"{shown(path)} already exists; add --force to overwrite it")


def _rows(task: Task, split: str, limit: int | None) -> Rows:
    if task.data != "samples":
        return fetch_rows(task.dataset, split, limit=limit)
    rows = task.rows(split)
    return Rows(rows.dataset, rows.split, rows.source, rows.revision, rows.rows[:limit])


def _refuse_unwritable(records: Sequence[Record], where: str) -> None:
    for number, record in enumerate(records):
        for column, value in record.items():
            fault = _fault(value) or _fault(column)
            if fault:
                raise DataError(f"{where}, row {number}, column {column!r}: {fault}")


def _fault(value: object) -> str:
    """Why neither Toon nor JSON can say a value, '' where they can."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "half a character (a lone surrogate) can't be written"
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} can't be written; give a number or a text in its place"
    if not isinstance(value, int | float):
        return f"a {type(value).__name__} can't be written; declare prompt.inputs"
    return ""
