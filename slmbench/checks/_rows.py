"""Splits that a machine has at hand: their rows as examples, and where a row's fault belongs in task.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import field, frozen

from slmbench.checks._findings import Findings, problems_of
from slmbench.checks._hooks import ROWS_MADE_TWICE, check_example_hook
from slmbench.datasets import Row, Rows, fetch_rows, local_source
from slmbench.errors import DataError, HookError, Problem, SlmbenchError
from slmbench.task import Task, templates_of
from slmbench.templates import Template
from slmbench.values import Example
from slmbench.yamlfile import Location

ROWS_COMPARED = 10_000
"""Rows of a split that are converted and held against those of other splits."""

GOLDEN = "golden"
"""What the rows of samples.jsonl are called, beside mirror, file and generated."""

_KEYS = re.compile(r"(gold|choices|labels|references|continuation|cluster|fewshot)\b")


@frozen(eq=False)
class Split:
    """A split's examples, with what identifies each of them to a model. questions: one an example, as rendered."""

    name: str
    source: str
    examples: tuple[Example, ...]
    questions: tuple[str, ...] = field(repr=False)


def is_local(task: Task, split: str, found: Findings) -> bool:
    """Whether a split's rows are here without a network; a mirror that is not a folder is told as a problem."""
    try:
        return local_source(task.dataset, split) is not None
    except SlmbenchError as error:
        found.add(*problems_of(error, found, ("dataset",)))
        return True


def local_rows(task: Task, split: str, found: Findings) -> Rows | None:
    """A split's first rows, or None and a problem."""
    try:
        return fetch_rows(task.dataset, split, limit=ROWS_COMPARED)
    except SlmbenchError as error:
        found.add(*problems_of(error, found, ("dataset", "files", split)))
        return None


def convert(task: Task, rows: Rows, found: Findings) -> Split:
    """Rows as examples; those that can't be converted are problems and left out."""
    examples, questions = [], []
    # What zero adds to every question is not what tells one from another.
    asking = task.with_cot("off") if task.cot == "zero" else task
    source = GOLDEN if rows.source == "samples" else rows.source
    for number, row in enumerate(rows.rows):
        try:
            example = task.example(row, number, rows.split)
            question = asking.question(example)
        except SlmbenchError as error:
            problem = _row_problem(task, row, number, error, found)
            found.of_row(type(error).__name__, problem, f"row {number} of {source} {rows.split!r}")
            continue
        if number < ROWS_MADE_TWICE:
            check_example_hook(task, row, number, example, found)
        examples.append(example)
        questions.append(question)
    return Split(rows.split, source, tuple(examples), tuple(questions))


def _row_problem(task: Task, row: Row, number: int, error: SlmbenchError, found: Findings) -> Problem:
    """The problem of a row at the plugin's line, or at the template that can't be rendered for it."""
    if isinstance(error, HookError):
        (problem,) = problems_of(error, found)
        # The row is said by whoever counts rows.
        return Problem(problem.path, problem.line, 1, problem.message.removesuffix(f" (row {number})"))
    fields = dict(row)
    if task.plugin is not None and task.plugin.has("example"):
        fields |= task.plugin.call("example", dict(row), row=number)
    return found.document.problem(*fault_of_templates(task, fields, str(error)))


def fault_of_templates(task: Task, fields: Mapping[str, object], said: str) -> tuple[Location, str]:
    """(where the fault of a row stands in task.yaml, what it is): the template that fails, else what the error names.

    said: the error's message, which begins with the task and the row.
    """
    # Two names are the project's own and in no row.
    known = {"choice": "", "completion": "", **fields}
    for location, source in templates_of(task.spec):
        try:
            Template(source).render(known)
        except DataError as fault:
            return location, f"{'.'.join(map(str, location))}: {fault}"
    message = said.split(": ", 1)[-1]
    key = _KEYS.match(message)
    return (key[1] if key else "prompt",), message
