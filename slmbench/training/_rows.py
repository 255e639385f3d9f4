"""Training rows: prompt and answer as token ids, what had to be cut or left out counted, whose row each one is."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from slmbench.catalog import Catalog
from slmbench.errors import DataError, OfflineError, UsageError
from slmbench.formats import Format, encoder_decoder_ids, training_ids
from slmbench.recipe import Recipe
from slmbench.schema import RowsSpec
from slmbench.task import Settings, Task, load_task
from slmbench.values import Example, JsonObject, Tokenizer

if TYPE_CHECKING:
    from datasets import Dataset as HubDataset

# Of a small task, no more than this part is kept aside.
MOST_VALIDATION = 0.25


@frozen
class TrainingRow:
    """One row: the ids of prompt and answer (with the end of its turn). cut: tokens taken off the prompt's front.

    cut_answer: tokens taken off the answer's end, 0 but for an answer that alone is longer than a row may be.
    prompt_sha256: of the whole prompt's text; '' where it isn't known. For an encoder-decoder, prompt has the encoder's
    ids and answer the decoder's labels.
    """

    task: str
    example: Example
    prompt: list[int]
    answer: list[int]
    cut: int = 0
    cut_answer: int = 0
    prompt_sha256: str = ""

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.answer)


@frozen
class TaskRows:
    """The training rows of one task. dropped: reason -> how many rows of the split were left out for it."""

    task: str
    rows: list[TrainingRow]
    dropped: Mapping[str, int] = field(factory=dict)


def training_rows(
    task: Task,
    format: Format,
    tokenizer: Tokenizer,
    *,
    limit: int | None,
    max_tokens: int,
    architecture: str = "causal",
    seed: int | None = None,
) -> list[TrainingRow]:
    """`take_rows` without the counts of what was left out."""
    taken = take_rows(task, format, tokenizer, limit=limit, max_tokens=max_tokens, architecture=architecture, seed=seed)
    return taken.rows


def take_rows(
    task: Task,
    format: Format,
    tokenizer: Tokenizer,
    *,
    limit: int | None,
    max_tokens: int,
    architecture: str = "causal",
    seed: int | None = None,
) -> TaskRows:
    """The rows of a task's train split, the first `limit` of them that are not shots.

    seed: the first of them in the order that datasets' `shuffle(seed=seed)` gives the split; None for their own.
    A row that is too long loses the front of its prompt, as evaluation's would, and keeps its answer and its end.
    max_tokens: of prompt and answer together; for architecture 'seq2seq', of the encoder's side and of the decoder's,
    each. A row without an answer is left out and counted.
    Raises UsageError if the task has no train split, DataError if no row is left or every answer was cut.
    """
    if task.spec.train_split is None or task.spec.train_split not in task.dataset.spec.split_names:
        raise UsageError(f"task {task.name!r} has no train split, so nothing can be trained on it")
    task = task.in_format(format)
    there = task.examples(str(task.spec.train_split))
    examples = [there[place] for place in _places(task, seed)[:limit]]
    rows = []
    for example in examples:
        answer_text = format.write(task.target(example))
        if not answer_text.strip():
            continue
        rendered = task.render(format, tokenizer, example)
        ids = encoder_decoder_ids if architecture == "seq2seq" else training_ids
        prompt, answer = ids(format, tokenizer, rendered, answer_text)
        digest = hashlib.sha256(rendered.text.encode("utf-8", "surrogatepass")).hexdigest()
        row = TrainingRow(task.name, example, prompt, answer, prompt_sha256=digest)
        rows.append(_fit_sides(row, max_tokens) if architecture == "seq2seq" else _fit(row, max_tokens))
    empty = len(examples) - len(rows)
    where = f"task {task.name!r}, split {task.spec.train_split!r}"
    if not examples:
        raise DataError(f"{where}: every row is a worked example of the prompts; lower `shots`, or add rows")
    if not rows:
        raise DataError(
            f"{where}: no row has an answer, of {len(examples)}, so there is nothing to learn; check `answer` in the "
            "task.yaml against the data set's columns"
        )
    if all(row.cut_answer for row in rows):
        needed = min(len(row.answer) + row.cut_answer for row in rows) + (architecture != "seq2seq")
        raise DataError(
            f"{where}: all {len(rows)} rows were truncated: every answer alone is longer than max_tokens "
            f"({max_tokens}), so the model never sees one end; set max_tokens to {needed} or more"
        )
    left_out = {f"no {column}": n for column, n in task.rows(str(task.spec.train_split)).left_out.items()}
    return TaskRows(task.name, rows, left_out | ({"no answer": empty} if empty else {}))


def _places(task: Task, seed: int | None = None) -> list[int]:
    """Where train rows lie that are in no prompt: a row that is its own worked example would teach copying."""
    split = str(task.spec.train_split)
    order = list(range(len(task.rows(split).rows)))
    if seed is not None:
        import numpy

        # As datasets' Dataset.shuffle has it.
        order = numpy.random.default_rng(seed).permutation(len(order)).tolist()
    first = task.spec.fewshot.skip + task.shot_count if task.shot_split == split else 0
    if not task.spec.fewshot.same or not first:
        return [place for place in order if place >= first]
    seen: Counter[str] = Counter()
    kept = set()
    for place, example in enumerate(task.examples(split)):
        group = task.shot_group(example)
        seen[group] += 1
        if seen[group] > first:  # Shots are the first rows of each group.
            kept.add(place)
    return [place for place in order if place in kept]


def refuse_too_few(tasks: Sequence[Task], rows: RowsSpec, aside: int = 0) -> None:
    """Raises UsageError if some task's train split has fewer rows than are to be drawn from it, with what it has.

    aside: rows that are drawn to be kept aside, too. Golden rows, which stand in for others, are as many as they are.
    """
    lacking: dict[str, int] = {}
    for task in tasks:
        split = str(task.spec.train_split)
        if split in task.dataset.spec.split_names and task.rows(split).source != "samples":
            there = len(_places(task))
            if there < rows.n + aside:
                lacking[f"task {task.name!r} has {there:,} in its split {split!r}"] = there
    if not lacking:
        return
    most = min(lacking.values()) - aside
    beside = f", and {aside:,} more are to be kept aside" if aside else ""
    todo = f"`--set rows.n={most}`" if most > 0 else "keep fewer aside"
    said = f"rows.n: {rows.n:,} rows are to be drawn{beside}, but {'; '.join(lacking)}"
    raise UsageError(f"{said}; {todo}, or `--set rows=null` for all")


def refuse_small_splits(
    recipe: Recipe, names: Iterable[str], catalog: Catalog, data: str, loaded: dict[str, Task] | None = None
) -> None:
    """`refuse_too_few` for all these adapters of a recipe at once, without a tokenizer or a library of training.

    loaded: tasks by name that needn't be loaded again; those of these adapters are added. Splits that this machine
    lacks are passed over: what is missing is told with all else that is. Raises UsageError, and what `load_task` does.
    """
    spec, loaded = recipe.spec, {} if loaded is None else loaded
    if not isinstance(spec.rows, RowsSpec):
        return
    trained = list(dict.fromkeys(task for name in names for task in spec.adapters[name].tasks))
    for name in trained:
        if name not in loaded:
            loaded[name] = load_task(name, catalog, data=data)
    tasks, _ = Settings(shots=spec.shots, cot=spec.cot).of([loaded[name] for name in trained])
    there = []
    for task in tasks:
        with contextlib.suppress(OfflineError):
            task.rows(str(task.spec.train_split))
            there.append(task)
    refuse_too_few(there, spec.rows, spec.validation.rows if spec.validation is not None else 0)


def split_validation(rows: Sequence[TrainingRow], n: int) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """(rows to train on, rows kept aside): of each task up to n, at most a quarter of its rows, both in their order.

    Which ones depends on their content alone, not on where they stand. Rows with the same prompt stay together, so that
    nothing is on both sides; a task whose rows all have one prompt keeps none aside.
    """
    by_task: dict[str, dict[str, list[int]]] = {}
    for index, row in enumerate(rows):
        by_task.setdefault(row.task, {}).setdefault(_prompt_key(row), []).append(index)
    aside: set[int] = set()
    for task, groups in by_task.items():
        room = min(n, int(sum(map(len, groups.values())) * MOST_VALIDATION))
        for key in sorted(groups, key=lambda key: hashlib.sha256(f"{task}\0{key}".encode()).digest()):
            if len(groups[key]) <= room:
                aside.update(groups[key])
                room -= len(groups[key])
    return (
        [row for index, row in enumerate(rows) if index not in aside],
        [row for index, row in enumerate(rows) if index in aside],
    )


def _prompt_key(row: TrainingRow) -> str:
    return row.prompt_sha256 or hashlib.sha256(repr(row.prompt).encode()).hexdigest()


def mixture(
    rows: Sequence[TrainingRow], dropped: Mapping[str, Mapping[str, int]] | None = None
) -> dict[str, JsonObject]:
    """What a list of rows is made of, by task: rows, tokens, answer tokens, how many were cut and how many left out.

    dropped: task -> reason -> rows; its tasks are told of even if no row is left.
    """
    parts: dict[str, dict[str, Any]] = {}

    def part_of(task: str) -> JsonObject:
        keys = ("rows", "tokens", "answer_tokens", "truncated_rows", "truncated_answers", "rows_without_reasoning")
        return parts.setdefault(task, dict.fromkeys((*keys, "dropped_rows"), 0))

    for row in rows:
        part = part_of(row.task)
        part["rows"] += 1
        part["tokens"] += row.length
        part["answer_tokens"] += len(row.answer)
        part["truncated_rows"] += row.cut > 0
        part["rows_without_reasoning"] += row.example.reasoning == ""
        part["truncated_answers"] += row.cut_answer > 0
    for task, reasons in (dropped or {}).items():
        if any(reasons.values()):
            part = part_of(task)
            part["dropped_rows"] = sum(reasons.values())
            part["dropped"] = {reason: n for reason, n in reasons.items() if n}
    return parts


def as_dataset(
    rows: Sequence[TrainingRow], names: Sequence[str], architecture: str = "causal", *, loss: str = "answer"
) -> HubDataset:
    """The rows as a trainer takes them: `input_ids`, `labels` and `task_id`, an index into names.

    causal: both as long as prompt and answer together, the labels -100 on the prompt, unless loss is `all`. seq2seq:
    the encoder's ids and the decoder's labels.
    """
    import datasets

    if not rows:
        raise DataError("there are no training rows")
    joint = architecture != "seq2seq"
    return datasets.Dataset.from_dict(
        {
            "input_ids": [row.prompt + row.answer if joint else row.prompt for row in rows],
            "labels": [_labels(row, loss) if joint else row.answer for row in rows],
            "task_id": [names.index(row.task) for row in rows],
        }
    )


def _labels(row: TrainingRow, loss: str) -> list[int]:
    return (row.prompt if loss == "all" else [-100] * len(row.prompt)) + row.answer


def _fit(row: TrainingRow, max_tokens: int) -> TrainingRow:
    over = row.length - max_tokens
    if over <= 0:
        return row
    # At least one token of the prompt stays: without it there is nothing to answer to.
    cut = max(0, min(over, len(row.prompt) - 1))
    over -= cut
    answer = row.answer[: len(row.answer) - over] if over else row.answer
    return evolve(row, prompt=row.prompt[cut:], answer=answer, cut=cut, cut_answer=over)


def _fit_sides(row: TrainingRow, max_tokens: int) -> TrainingRow:
    cut, over = (max(0, len(side) - max_tokens) for side in (row.prompt, row.answer))
    return evolve(row, prompt=row.prompt[cut:], answer=row.answer[:max_tokens], cut=cut, cut_answer=over)
