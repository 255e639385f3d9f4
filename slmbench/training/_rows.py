"""Training rows: prompt and answer as token ids, what had to be cut counted, one column saying whose row it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from attrs import frozen

from slmbench.errors import DataError, UsageError
from slmbench.formats import Format, training_ids
from slmbench.task import Task
from slmbench.values import Example


@frozen
class TrainingRow:
    """One row: the ids of prompt and answer (with the end of its turn). cut: tokens taken off the prompt's front.

    cut_answer: tokens taken off the answer's end, 0 but for an answer that alone is longer than a row may be.
    """

    task: str
    example: Example
    prompt: list[int]
    answer: list[int]
    cut: int = 0
    cut_answer: int = 0

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.answer)


def training_rows(
    task: Task, format: Format, tokenizer: Any, *, limit: int | None, max_tokens: int
) -> list[TrainingRow]:
    """The rows of a task's train split. Raises UsageError where it has none.

    A row that is too long loses the front of its prompt, as evaluation's would, and keeps its answer and its end.
    """
    if task.spec.train_split is None or task.spec.train_split not in task.dataset.spec.split_names:
        raise UsageError(f"task {task.name!r} has no train split, so nothing can be trained on it")
    rows = []
    for example in _without_shots(task, limit):
        rendered = task.render(format, tokenizer, example)
        prompt, answer = training_ids(format, tokenizer, rendered, format.write(task.target(example)))
        rows.append(_fit(TrainingRow(task.name, example, prompt, answer), max_tokens))
    return rows


def _without_shots(task: Task, limit: int | None) -> list[Example]:
    """The first `limit` train rows that are in no prompt: a row that is its own worked example would teach copying."""
    split = str(task.spec.train_split)
    first = task.spec.fewshot.skip + task.shot_count if task.shot_split == split else 0
    if not task.spec.fewshot.same or not first:
        return list(task.examples(split, None if limit is None else limit + first)[first:])
    seen: Counter[str] = Counter()
    kept = []
    for example in task.examples(split):
        group = task.shot_group(example)
        seen[group] += 1
        if seen[group] > first:  # Shots are the first rows of each group.
            kept.append(example)
    return kept[:limit]


def mixture(rows: Sequence[TrainingRow]) -> dict[str, dict[str, int]]:
    """What a list of rows is made of, by task: rows, tokens, answer tokens, and how many rows were cut."""
    parts: dict[str, dict[str, int]] = {}
    for row in rows:
        keys = ("rows", "tokens", "answer_tokens", "truncated_rows", "truncated_answers", "rows_without_reasoning")
        part = parts.setdefault(row.task, dict.fromkeys(keys, 0))
        part["rows"] += 1
        part["tokens"] += row.length
        part["answer_tokens"] += len(row.answer)
        part["truncated_rows"] += row.cut > 0
        part["rows_without_reasoning"] += row.example.reasoning == ""
        part["truncated_answers"] += row.cut_answer > 0
    return parts


def as_dataset(rows: Sequence[TrainingRow], names: Sequence[str]) -> Any:
    """The rows as trl takes them: `input_ids`, `labels` (-100 on the prompt) and `task_id`, an index into names."""
    import datasets

    if not rows:
        raise DataError("there are no training rows")
    return datasets.Dataset.from_dict(
        {
            "input_ids": [row.prompt + row.answer for row in rows],
            "labels": [[-100] * len(row.prompt) + row.answer for row in rows],
            "task_id": [names.index(row.task) for row in rows],
        }
    )


def _fit(row: TrainingRow, max_tokens: int) -> TrainingRow:
    over = row.length - max_tokens
    if over <= 0:
        return row
    # At least one token of the prompt stays: without it there is nothing to answer to.
    cut = min(over, len(row.prompt) - 1)
    over -= cut
    answer = row.answer[: len(row.answer) - over] if over else row.answer
    return TrainingRow(row.task, row.example, row.prompt[cut:], answer, cut, over)
