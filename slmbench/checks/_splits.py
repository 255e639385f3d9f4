"""Splits that a machine has at hand: their rows as examples, and what must not be in two of them."""

from __future__ import annotations

import json

from attrs import field, frozen

from slmbench.checks._findings import Findings, problems_of, short
from slmbench.datasets import Row, Rows, fetch_rows, local_source
from slmbench.errors import DataError, HookError, Problem, SlmbenchError
from slmbench.task import Task, templates_of
from slmbench.templates import Template
from slmbench.values import Example

ROWS_COMPARED = 10_000
"""Rows of a split that are converted and held against those of other splits."""


@frozen(eq=False)
class Split:
    """A split's examples, with what identifies each of them to a model. questions: one an example, as rendered."""

    name: str
    source: str
    examples: tuple[Example, ...]
    questions: tuple[str, ...] = field(repr=False)


def local_rows(task: Task, split: str, found: Findings) -> Rows | None:
    """A split's first rows where no network is needed for them, else None and a notice or a problem."""
    try:
        if local_source(task.dataset, split) is None:
            found.notices.append(f"split {split!r} is on the hub alone (see `slmbench data pull`); not checked")
            return None
        return fetch_rows(task.dataset, split, limit=ROWS_COMPARED)
    except SlmbenchError as error:
        found.add(*problems_of(error, found, ("dataset", "files", split)))
        return None


def convert(task: Task, rows: Rows, found: Findings) -> Split:
    """Rows as examples; those that can't be converted are problems and left out."""
    examples, questions = [], []
    user = Template(task.spec.prompt.user)
    for number, row in enumerate(rows.rows):
        try:
            example = task.example(row, number, rows.split)
            question = user.render(example.fields)
        except SlmbenchError as error:
            problem = _row_problem(task, row, number, error, found)
            found.of_row(type(error).__name__, problem, f"row {number} of {rows.source} {rows.split!r}")
            continue
        examples.append(example)
        questions.append(question)
    return Split(rows.split, rows.source, tuple(examples), tuple(questions))


def _row_problem(task: Task, row: Row, number: int, error: SlmbenchError, found: Findings) -> Problem:
    """The problem of a row at the plugin's line, or at the template that can't be rendered for it."""
    if isinstance(error, HookError):
        (problem,) = problems_of(error, found)
        # The row is said by whoever counts rows.
        return Problem(problem.path, problem.line, 1, problem.message.removesuffix(f" (row {number})"))
    fields = dict(row)
    if task.plugin is not None and task.plugin.has("example"):
        fields |= task.plugin.call("example", dict(row), row=number)
    for location, source in templates_of(task.spec):
        try:
            Template(source).render(fields)
        except DataError as fault:
            return found.document.problem(location, f"{'.'.join(map(str, location))}: {fault}")
    key = "gold" if "gold:" in str(error) else "choices"
    return found.document.problem((key,), str(error).split(": ", 1)[-1])


def check_leaks(task: Task, splits: dict[str, Split], found: Findings) -> None:
    """Finds shots that are evaluated items, and evaluated items that are trained on.

    A shot is an item where their fields are the same, or, unless there are choices, their questions. A training row is
    an item where question, answer and choices are the same.
    """
    spec = task.spec
    evaluated = splits[spec.split]
    asked = dict(zip(reversed(evaluated.questions), reversed(evaluated.examples), strict=True))
    shots = splits.get(spec.fewshot.split) if spec.fewshot.n else None
    if shots is not None:
        rows = {_canonical(example): example for example in reversed(evaluated.examples)}
        for example, question in list(zip(shots.examples, shots.questions, strict=True))[: spec.fewshot.n]:
            same = rows.get(_canonical(example)) or (asked.get(question) if not example.choices else None)
            if same is not None:
                message = f"shot {example.id!r} is the evaluated item {same.id!r}: {short(question)}"
                found.at(("fewshot",), message)
    train = splits.get(spec.train_split or "")
    if train is None:
        return
    trained = {_identity(*pair): pair[0].id for pair in zip(train.examples, train.questions, strict=True)}
    pairs = zip(evaluated.examples, evaluated.questions, strict=True)
    shared = [(example.id, key) for example, key in ((pair[0], _identity(*pair)) for pair in pairs) if key in trained]
    if shared:
        first, key = shared[0]
        message = (
            f"{len(shared)} of {len(evaluated.examples)} rows of split {evaluated.name!r} are in split {train.name!r} "
            f"too; the first is {first!r}, which is {trained[key]!r}: {short(key[0])}"
        )
        found.at(("dataset",), message)


def _identity(example: Example, question: str) -> tuple[str, str, tuple[str, ...]]:
    return question, example.answer, example.choices


def _canonical(example: Example) -> str:
    return json.dumps(dict(example.fields), sort_keys=True, default=str)
