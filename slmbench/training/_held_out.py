"""Rows to choose a merge by: none that an adapter was trained on, and none of a test split."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

from attrs import evolve, frozen

from slmbench.console import say
from slmbench.datasets import local_source
from slmbench.errors import DataError, UsageError
from slmbench.formats import Format
from slmbench.runs import TrainingRecord
from slmbench.task import Task, require_rows
from slmbench.training._rows import TrainingRow, take_rows
from slmbench.values import Tokenizer

VALIDATION_SPLITS = ("validation", "valid", "dev", "val")
HELD_OUT = "held-out"
PROMPT_DIGITS = 16


@frozen(eq=False)
class HeldOutRows:
    """Rows of one task that no adapter has seen. rows: by a digest of their prompt, not by their place.

    task: the task itself, its evaluated split these rows alone. origin: where they are from, for a person.
    """

    task: Task
    rows: list[TrainingRow]
    origin: str

    def first(self, n: int) -> HeldOutRows:
        """The first n of them."""
        return HeldOutRows(_only(self.task, HELD_OUT, range(min(n, len(self.rows)))), self.rows[:n], self.origin)


def prompt_digest(row: TrainingRow) -> str:
    """What names a row in a training's record, by its prompt."""
    return row.prompt_sha256[:PROMPT_DIGITS]


def held_out_rows(
    task: Task,
    trained: Mapping[str, TrainingRecord | None],
    format: Format,
    tokenizer: Tokenizer,
    *,
    max_tokens: int,
    architecture: str = "causal",
) -> HeldOutRows:
    """Rows of a task that none of the adapters was trained on; its evaluated split isn't read.

    trained: adapter -> its training's record, None of one that was made elsewhere. Of the data set's validation split,
    those whose prompt no train row has; else those of the train split that all trainings on the task kept aside; else,
    where none was trained on it, the train split. Rows are encoded as a training would: longer ones are cut.
    Raises UsageError if there are none to be had, OfflineError if a split isn't available.
    """
    own = [name for name, record in trained.items() if record is not None and task.name in record.tasks]
    train = task.spec.train_split if task.spec.train_split in task.dataset.spec.split_names else None
    if unknown := [name for name, record in trained.items() if record is None]:
        said = "has" if len(unknown) == 1 else "have"
        say(f"note: {', '.join(unknown)} {said} no training.json: that it has not seen these rows is taken on trust")

    def rows_of(split: str) -> list[TrainingRow]:
        require_rows([(task, split)])
        there = evolve(task, spec=task.spec.model_copy(update={"train_split": split}))
        return take_rows(there, format, tokenizer, limit=None, max_tokens=max_tokens, architecture=architecture).rows

    for split in VALIDATION_SPLITS:
        if (
            split in task.dataset.spec.split_names
            and split not in (task.spec.split, train)
            and not _golden(task, split)
        ):
            seen = {row.prompt_sha256 for row in rows_of(train)} if own and train is not None else set[str]()
            rows = [row for row in rows_of(split) if row.prompt_sha256 not in seen]
            return _held(task, split, rows, f"split {split!r}")
    if train is None or train == task.spec.split:
        raise UsageError(
            f"task {task.name!r} has neither a validation nor a train split apart from the evaluated one, so there are "
            "no rows to search on; name others in `search.tasks`"
        )
    if not own:
        return _held(task, train, rows_of(train), f"split {train!r}, on which nothing here was trained")
    aside = [{*trained[name].tasks[task.name].validation_prompts} for name in own]  # type: ignore[union-attr]
    lacking = [name for name, prompts in zip(own, aside, strict=True) if not prompts]
    rows = rows_of(train)
    if lacking and _golden(task, train):
        return _held(task, train, rows, "golden rows, trained on: of a twin, whose numbers say nothing")
    if lacking:
        raise UsageError(
            f"task {task.name!r}: {', '.join(lacking)} was trained on all of its rows, and the data set has no "
            "validation split, so there are no rows to search on; give the recipe that trains it `validation: {rows: "
            "64}` (a merge recipe: `train: {recipe: ..., set: {validation.rows: 64}}`), and train it again"
        )
    kept = [row for row in rows if all(prompt_digest(row) in prompts for prompts in aside)]
    if not kept:
        raise UsageError(
            f"task {task.name!r}: of {len(rows):,} rows none has a prompt that {', '.join(own)} kept aside: rows or "
            "prompts are others than in training; train again"
        )
    return _held(task, train, kept, f"rows of {train!r} that training kept aside")


def _golden(task: Task, split: str) -> bool:
    return task.data == "samples" or (task.data == "twin" and local_source(task.dataset, split) is None)


def _held(task: Task, split: str, rows: Sequence[TrainingRow], origin: str) -> HeldOutRows:
    if not rows:
        raise DataError(f"task {task.name!r}, split {split!r}: no row is left to search on")
    # One of each prompt: answers to the same question would be counted as if they were several.
    by_prompt = {row.prompt_sha256: row for row in reversed(rows)}
    order = sorted(by_prompt, key=lambda prompt: hashlib.sha256(f"{task.name}\0{prompt}".encode()).digest())
    chosen = [by_prompt[prompt] for prompt in order]
    places = [_place(row.example.id) for row in chosen]
    return HeldOutRows(_only(task, split, places), chosen, origin)


def _place(example_id: str) -> int:
    return int(example_id.rpartition("-")[2])


def _only(task: Task, split: str, places: Collection[int]) -> Task:
    """The task, its evaluated split the rows at these places of another split."""
    there, examples = task.rows(split), task.examples(split)
    rows = evolve(there, split=HELD_OUT, rows=[there.rows[i] for i in places], places=())
    # The others stay: worked examples are taken from them.
    known = {**task._rows, HELD_OUT: rows}
    made = {**task._examples, HELD_OUT: tuple(examples[i] for i in places)}
    return evolve(task, spec=task.spec.model_copy(update={"split": HELD_OUT}), rows=known, examples=made)
