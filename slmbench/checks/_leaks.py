"""What must not be in two splits: shots that are evaluated items, evaluated items that are trained on."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping

from slmbench.checks._findings import Findings, short
from slmbench.checks._rows import Split
from slmbench.contamination import normalised
from slmbench.errors import SlmbenchError
from slmbench.task import Task
from slmbench.values import Example


def check_leaks(task: Task, splits: dict[str, Split], found: Findings) -> None:
    """Finds shots that are evaluated items, and evaluated items that are trained on.

    A shot is an item where their fields are the same, or, unless there are choices, their questions; with `same`, only
    an item of the shot's own group is ever shown it. A training row is an item where question, answer and choices are
    the same. Case, punctuation and white space tell nothing apart, as in a training: a row with a blank more is known
    by heart all the same.
    """
    evaluated = splits[task.spec.split]
    _check_shots(task, evaluated, splits, found)
    train = splits.get(task.spec.train_split or "")
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


def _check_shots(task: Task, evaluated: Split, splits: dict[str, Split], found: Findings) -> None:
    rows = {(group_of(task, one), _canonical(one)): one for one in reversed(evaluated.examples)}
    asked = {
        (group_of(task, example), normalised(question)): example
        for example, question in zip(reversed(evaluated.examples), reversed(evaluated.questions), strict=True)
        if not example.choices
    }
    few = splits.get(task.spec.fewshot.split) if task.spec.fewshot.n else None
    for example, question in _shots(task, few) if few is not None else ():
        group = group_of(task, example)
        same = rows.get((group, _canonical(example))) or asked.get((group, normalised(question)))
        if same is not None:
            found.at(("fewshot",), f"shot {example.id!r} is the evaluated item {same.id!r}: {short(question)}")
    by_question = {question: example for (_, question), example in asked.items()}
    for number, question in _worked_questions(task):
        if normalised(question) in by_question:
            same = by_question[normalised(question)]
            message = f"worked shot {number} asks the evaluated item {same.id!r}: {short(question)}"
            found.at(("cot", "shots", number), message)


def _shots(task: Task, few: Split) -> Iterator[tuple[Example, str]]:
    """Every row that is a shot of some item, with its question."""
    spec = task.spec.fewshot
    groups: dict[str, list[tuple[Example, str]]] = defaultdict(list)
    for example, question in zip(few.examples, few.questions, strict=True):
        groups[group_of(task, example)].append((example, question))
    for rows in groups.values():
        yield from rows[spec.skip : spec.skip + spec.n]


def _worked_questions(task: Task) -> Iterator[tuple[int, str]]:
    """The questions of the declaration's own shots."""
    if task.spec.cot is None or task.spec.cot.shots is None:
        return
    few = task.with_cot("few")
    for number, row in enumerate(task.spec.cot.shots):
        try:
            yield number, few.question(few.example(row, number, "cot.shots"))
        except SlmbenchError:  # Told where the shots are shown.
            continue


def group_of(task: Task, example: Example) -> str:
    """What an item shares with its shots; '' where they are the same for every item."""
    path = task.spec.fewshot.same
    value: object = example.fields
    for part in path.split(".") if path else ():
        value = value.get(part) if isinstance(value, Mapping) else None
    return str(value) if path else ""


def _identity(example: Example, question: str) -> tuple[str, str, tuple[str, ...]]:
    return normalised(question), normalised(example.answer), tuple(map(normalised, example.choices))


def _canonical(example: Example) -> str:
    return json.dumps(_alike(example.fields), sort_keys=True, default=str)


def _alike(value: object) -> object:
    """A value with all its texts normalised."""
    if isinstance(value, str):
        return normalised(value)
    if isinstance(value, Mapping):
        return {str(key): _alike(inner) for key, inner in value.items()}
    return [_alike(inner) for inner in value] if isinstance(value, list | tuple) else value
