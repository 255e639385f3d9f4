"""What a router sees of a task's rows: the user's own text, without a word of the task's template."""

from __future__ import annotations

import random
from collections.abc import Sequence

from attrs import frozen

from slmbench.errors import DataError, UsageError
from slmbench.prints import LOOPED
from slmbench.task import Task
from slmbench.templates import Template
from slmbench.texts import as_text
from slmbench.values import Example

ROWS, VALIDATION_ROWS = 300, 100
"""Of a task, to fit a head on and to choose by."""
FEWEST_ROWS = 4


def user_text(task: Task, example: Example) -> str:
    """The text of a row that a person would have typed: what the prompt's template inserts, a line for each field.

    By what `prompt.user` prints of the row's fields while it is rendered, in its order, after its filters and cuts. Its
    literal words are left out, and so are system text, prefix, instructions of a chain of thought, and shots: they
    tell the task, and at run time the template is what a router has yet to choose. A field that is printed twice
    counts once. Of a task whose choices are each put into a prompt of their own, the choice is left out: it is the
    answer. An expression that itself joins words to a field, as `{{ 'Q: ' ~ question }}`, counts as the field.
    Raises DataError as `task.prompt` does.
    """
    fields = dict(example.fields)
    if example.continuation is not None:
        fields["choice"] = ""
    try:
        printed = Template(task.spec.prompt.user).printed(fields)
    except DataError as error:
        raise DataError(f"task {task.name!r}, item {example.id!r}: {error}") from error
    whole = {one.path for one in printed if one.whole}
    texts: list[str] = []
    for one in printed:
        text = as_text(one.value).strip()
        again = LOOPED not in one.path and (text in texts or (not one.whole and one.path in whole))
        if text and not again:
            texts.append(text)
    return "\n".join(texts)


@frozen
class TaskTexts:
    """The texts of a task for a router. fit: a head is made of these. validation: it is chosen by these.

    examples: the rows of the validation texts, for whoever scores them. No text, and no cluster of the task's, is in
    both.
    """

    task: str
    fit: tuple[str, ...]
    validation: tuple[str, ...]
    examples: tuple[Example, ...]


def texts_of(task: Task, rows: int = ROWS, validation_rows: int = VALIDATION_ROWS, seed: int = 0) -> TaskTexts:
    """Texts of a task's train split, drawn by the seed: up to `rows` to fit on, up to `validation_rows` to choose by.

    Where there are fewer than both together, at most a quarter is for validation. The same text counts once. Raises
    UsageError for a task without a train split, DataError for fewer than 4 different texts.
    """
    split = task.spec.train_split
    if split is None:
        raise UsageError(f"task {task.name!r} declares no train_split, so there is nothing to fit a router on")
    there: dict[str, Example] = {}
    for example in task.examples(split):
        text = user_text(task, example)
        if text:
            there.setdefault(text, example)
    if len(there) < FEWEST_ROWS:
        raise DataError(
            f"task {task.name!r}: split {split!r} has {len(there)} different user texts, and a router needs "
            f"{FEWEST_ROWS} or more"
        )
    groups: dict[str, list[str]] = {}
    for text, example in there.items():
        groups.setdefault(text if example.cluster is None else f"cluster {example.cluster}", []).append(text)
    order = list(groups)
    random.Random(f"{seed} {task.name}").shuffle(order)
    drawn = [groups[name] for name in order]
    enough = len(there) >= rows + validation_rows
    validation = _take(drawn, validation_rows if enough else max(1, min(validation_rows, len(there) // 4)))
    return TaskTexts(task.name, tuple(_take(drawn, rows)), tuple(validation), tuple(there[text] for text in validation))


def _take(groups: list[list[str]], n: int) -> list[str]:
    """Up to n texts from the end of a list of groups, which are taken off it; the last one may be cut."""
    taken: list[str] = []
    while groups and len(taken) < n:
        taken += groups.pop()
    return taken[:n]


def told(texts: Sequence[TaskTexts]) -> str:
    """How many rows there are of each task, in words."""
    return ", ".join(f"{one.task} {len(one.fit)} + {len(one.validation)}" for one in texts)
