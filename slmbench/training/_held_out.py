"""Rows to choose a merge by: none that an adapter was trained on, and none of a test split."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

from attrs import evolve, frozen

from slmbench.console import say
from slmbench.contamination import contamination_of
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
_ENOUGH = 4  # Times the rows that are wanted: some share their prompt.


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
        return self.only(range(min(n, len(self.rows))))

    def only(self, places: Sequence[int]) -> HeldOutRows:
        """Those at these places, in their order."""
        return HeldOutRows(_only(self.task, HELD_OUT, places), [self.rows[i] for i in places], self.origin)


def without_evaluated(held: HeldOutRows, task: Task, evaluated: Sequence[Task]) -> HeldOutRows:
    """The rows without those whose text an evaluated split has too, as a training leaves them out.

    task: as it was declared, with its evaluated split. evaluated: all that will be. Their splits are only compared
    with; one that isn't available is told. Raises DataError if no row is left.
    """
    report = contamination_of([task], held.rows, evaluated, "warn")
    compared = {one.evaluation for one in report.overlaps}
    for name in {f"{one.name}/{one.spec.split}": None for one in (task, *evaluated)}:
        if name not in compared:
            say(f"note: {name} isn't available, so rows of {task.name} to search on were not compared with it")
    shared = report.flagged(task.name)
    if not shared:
        return held
    kept = [i for i in range(len(held.rows)) if i not in shared]
    if not kept:
        raise DataError(
            f"task {task.name!r}: all {len(shared)} rows to search on ({held.origin}) are in an evaluation split too, "
            "so none is left; name other tasks in `search.tasks`"
        )
    made = held.only(kept)
    return HeldOutRows(made.task, made.rows, f"{held.origin}, without {len(shared)} that an evaluated split has too")


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
    wanted: int,
    architecture: str = "causal",
) -> HeldOutRows:
    """Rows of a task that none of the adapters was trained on; its evaluated split isn't read.

    trained: adapter -> its training's record, None of one that was made elsewhere. Rows are those of the data set's
    validation split; else of the train split, those that no training on the task had read, or that all of them kept
    aside. None has a prompt of a row that was read. wanted: as many are enough; there may be fewer, or more. Rows are
    encoded as a training would: longer ones are cut at max_tokens.
    Raises UsageError if there are none to be had, OfflineError if a split isn't available.
    """
    own = {name: record for name, record in trained.items() if record is not None and task.name in record.tasks}
    for name, record in trained.items():
        if record is not None and record.init_adapter is not None and task.name in record.init_adapter.tasks:
            raise UsageError(
                f"task {task.name!r}: {name} goes on from an adapter that was trained on it, and which of its rows "
                "that had read isn't known; name other tasks in `search.tasks`"
            )
    train = task.spec.train_split if task.spec.train_split in task.dataset.spec.split_names else None
    if unknown := [name for name, record in trained.items() if record is None]:
        said = "has" if len(unknown) == 1 else "have"
        say(f"note: {', '.join(unknown)} {said} no training.json: that it has not seen these rows is taken on trust")

    def rows_of(split: str, limit: int | None, seed: int | None = None) -> list[TrainingRow]:
        require_rows([(task, split)])
        there = evolve(task, spec=task.spec.model_copy(update={"train_split": split}))
        taken = take_rows(
            there, format, tokenizer, limit=limit, max_tokens=max_tokens, architecture=architecture, seed=seed
        )
        return taken.rows

    def seen_in(split: str) -> set[str]:
        return {row.prompt_sha256 for limit, seed in read for row in rows_of(split, limit, seed)}

    enough = _ENOUGH * wanted
    read = {_read_rows(record) for record in own.values()}
    # Rows that were drawn lie anywhere.
    most = None if any(n is None or seed is not None for n, seed in read) else max([0, *(n or 0 for n, _ in read)])
    for split in VALIDATION_SPLITS:
        apart = split in task.dataset.spec.split_names and split not in (task.spec.split, train)
        if apart and not _golden(task, split):
            seen = seen_in(train) if train is not None else set[str]()
            rows = [row for row in rows_of(split, enough) if row.prompt_sha256 not in seen]
            return _held(task, split, rows, f"split {split!r}")
    if train is None or train == task.spec.split:
        raise UsageError(
            f"task {task.name!r} has neither a validation nor a train split apart from the evaluated one, so there are "
            "no rows to search on; name others in `search.tasks`"
        )
    rows = rows_of(train, None if most is None else most + enough)
    if not own:
        return _held(task, train, rows, f"split {train!r}, on which nothing here was trained")
    seen = {row.prompt_sha256 for row in rows} if (None, None) in read else seen_in(train)
    if kept := [row for row in rows if row.prompt_sha256 not in seen]:
        first = "without the rows that were drawn" if most is None else f"after the first {most:,} rows"
        return _held(task, train, kept, f"split {train!r} {first}, which are all that was read")
    aside = [set(record.tasks[task.name].validation_prompts) for record in own.values()]
    kept = [row for row in rows if all(prompt_digest(row) in prompts for prompts in aside)]
    if kept:
        return _held(task, train, kept, f"rows of split {train!r} that training kept aside")
    if _golden(task, train):
        return _held(task, train, rows, "golden rows, trained on: of a twin, whose numbers say nothing")
    lacking = [name for name, prompts in zip(own, aside, strict=True) if not prompts]
    if lacking:
        raise UsageError(
            f"task {task.name!r}: {', '.join(lacking)} was trained on all of its rows, and the data set has no "
            "validation split, so there are no rows to search on; give the recipe that trains it `validation: {rows: "
            "64}` (a merge recipe: `train: {recipe: ..., set: {validation.rows: 64}}`), and train it again"
        )
    raise UsageError(
        f"task {task.name!r}: of {len(rows):,} rows none has a prompt that {', '.join(own)} kept aside: rows or "
        "prompts are others than in training; train again"
    )


def _read_rows(record: TrainingRecord) -> tuple[int | None, int | None]:
    """(how many rows of each task a training read at most, None for all; the seed that drew them, None if none did)."""
    said = record.settings.rows
    if said is None:
        return None, None
    n, seed = (said, None) if isinstance(said, int) else (said.n, said.seed)
    validation = (record.settings.model_extra or {}).get("validation")
    aside = validation.get("rows") if isinstance(validation, dict) else 0
    return n + (aside if type(aside) is int else 0), seed


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
