"""Training rows that an evaluation split has too: the same text, the same words, or thirteen words in a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from itertools import chain, repeat
from typing import Literal, Protocol, TypeVar

from attrs import evolve, field, frozen

from slmbench.contamination.ngrams import (
    N_WORDS,
    UNKNOWN,
    RunIndex,
    Vocabulary,
    build_index,
    near,
    new_vocabulary,
    normalised,
    runs_of,
    shared_runs,
    words_of,
)
from slmbench.errors import DataError, OfflineError
from slmbench.task import Task
from slmbench.values import Example, JsonObject

Level = Literal["exact", "normalised", "ngram"]
LEVELS: tuple[Level, ...] = ("exact", "normalised", "ngram")
EXAMPLES_SHOWN = 3
INDICES_TOLD = 1000
CHARS_SHOWN = 200
CHUNK_ROWS = 4096
# What more than this part of a split's items has in common, and at least so many of them, is how they are asked.
BOILERPLATE_PART = 0.01
BOILERPLATE_ITEMS = 5


class Row(Protocol):
    """A row that is trained on, and its task's name."""

    @property
    def task(self) -> str: ...

    @property
    def example(self) -> Example: ...


AnyRow = TypeVar("AnyRow", bound=Row)


@frozen
class RowText:
    """What is one row's own: the fields that its prompt shows, without the words around them, and its answer."""

    id: str
    prompt: str
    answer: str


@frozen
class Shared:
    """One training row and the evaluated item that has the same. text: what they share, cut to be shown."""

    level: Level
    row: str
    item: str
    text: str


@frozen
class Overlap:
    """The rows of one training task that one evaluation split has too, each at its strongest level.

    rows: places among the task's rows. boilerplate: rows left alone, whose every shared run is one that many items
    have. golden: both sides are the same golden rows by intent, so that nothing follows from it.
    """

    training: str
    evaluation: str
    n_rows: int
    n_items: int
    rows: Mapping[Level, tuple[int, ...]]
    boilerplate: int
    examples: tuple[Shared, ...]
    golden: bool = False

    @property
    def flagged(self) -> int:
        return sum(map(len, self.rows.values()))


@frozen
class Report:
    """All overlaps of a training with what it is evaluated on. notes: what could not be compared, and why."""

    overlaps: tuple[Overlap, ...]
    notes: tuple[str, ...] = ()

    def flagged(self, task: str) -> set[int]:
        """The places of a task's rows that some evaluation split has too."""
        theirs = [one for one in self.overlaps if one.training == task and not one.golden]
        return {row for one in theirs for rows in one.rows.values() for row in rows}

    def as_json(self) -> JsonObject:
        """For training.json; of each level the first INDICES_TOLD rows' places."""
        return {
            "words_a_run": N_WORDS,
            "boilerplate": f"more than {BOILERPLATE_PART:.0%} of a split's items and at least {BOILERPLATE_ITEMS}",
            "overlaps": [
                {
                    "training": one.training,
                    "evaluation": one.evaluation,
                    "training_rows": one.n_rows,
                    "evaluation_items": one.n_items,
                    **{level: len(one.rows[level]) for level in LEVELS},
                    "boilerplate": one.boilerplate,
                    "golden": one.golden,
                    "rows": {level: list(one.rows[level][:INDICES_TOLD]) for level in LEVELS if one.rows[level]},
                    "examples": [
                        {"level": shown.level, "row": shown.row, "item": shown.item, "text": shown.text}
                        for shown in one.examples
                    ],
                }
                for one in self.overlaps
            ],
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """For the console: one line for all that is clean, and for every overlap its counts and examples."""
        found = [one for one in self.overlaps if one.flagged and not one.golden]
        rows = sum({one.training: one.n_rows for one in self.overlaps}.values())
        splits = {one.evaluation: one.n_items for one in self.overlaps if not one.golden}
        plural = "" if len(splits) == 1 else "s"
        lines = [
            f"contamination: {rows} training rows against {sum(splits.values())} items of {len(splits)} evaluation "
            f"split{plural}: {'none shared' if not found else 'some are shared'}"
        ]
        lines = lines if splits else []
        for one in found:
            counts = ", ".join(f"{len(one.rows[level])} with {_SAID[level]}" for level in LEVELS if one.rows[level])
            lines.append(f"  {one.flagged} of {one.n_rows} rows of {one.training} are in {one.evaluation}: {counts}")
            lines += [
                f"    {shown.row} and {shown.item}, {_SAID[shown.level]}: {shown.text!r}" for shown in one.examples
            ]
        for one in self.overlaps:
            if one.boilerplate and not one.golden:
                lines.append(
                    f"  {one.boilerplate} rows of {one.training} share {N_WORDS} words with {one.evaluation} that many "
                    "of its items have, and no others: kept"
                )
        return lines + [f"  {note}" if lines else f"contamination: {note}" for note in self.notes]


_SAID: dict[Level, str] = {
    "exact": "the same text",
    "normalised": "the same words",
    "ngram": f"{N_WORDS} words in a row",
}


def contamination_of(
    tasks: Sequence[Task], rows: Sequence[Row], evaluated: Sequence[Task], mode: str = "drop"
) -> Report:
    """What the rows of a training share with the splits of the tasks that are evaluated, and with the tasks' own ones.

    Where golden rows stand in for a split, as under `--data samples`, overlap with it has no consequence. The items of
    a split that is generated by code share their phrases by design, so they are compared whole. A split that can't be
    had offline is noted under mode 'warn'; otherwise OfflineError is raised, as nothing would be known of it.
    """
    training: dict[str, list[RowText]] = {task.name: [] for task in tasks}
    bare = {task.name: task.with_shots(0) for task in tasks}
    for row in rows:
        training[row.task].append(text_of(bare[row.task], row.example))
    evaluation: dict[str, list[RowText]] = {}
    golden: set[str] = set()
    generated: list[str] = []
    notes = []
    for task in {task.name: task for task in (*tasks, *evaluated)}.values():
        name, without = f"{task.name}/{task.spec.split}", task.with_shots(0)
        try:
            evaluation[name] = [text_of(without, example) for example in without.examples(task.spec.split)]
        except OfflineError as error:
            if mode != "warn":
                way_out = "to train without comparing rows with what is not here: `--on-contamination warn`"
                raise OfflineError(
                    f"{name} is evaluated, and its rows are not available: {error}; {way_out}"
                ) from error
            notes.append(f"{name} was not compared: {error}")
            continue
        if without.rows(task.spec.split).source == "samples":
            golden.add(name)
        elif task.dataset.spec.generated is not None:
            generated.append(name)
    if golden:
        notes.append(f"golden rows stand in, so what they share says nothing: {', '.join(sorted(golden))}")
    if generated:
        notes.append(f"generated by code, so compared by whole texts only: {', '.join(generated)}")
    report = find_contamination(training, evaluation, whole=generated)
    overlaps = tuple(evolve(one, golden=one.evaluation in golden) for one in report.overlaps)
    return Report(overlaps, (*report.notes, *notes))


def text_of(task: Task, example: Example) -> RowText:
    """An example's own texts. task: without shots, which are the same in every prompt."""
    inputs = task.prompt(example).inputs
    # What an instruction asks is the declaration's text, not the row's.
    shown = [str(value) for name, value in inputs.items() if name != "how_to_answer"]
    return RowText(example.id, "\n".join(shown), task.answer(example))


def find_contamination(
    training: Mapping[str, Sequence[RowText]],
    evaluation: Mapping[str, Sequence[RowText]],
    *,
    whole: Collection[str] = (),
    hash_bits: int = 64,
) -> Report:
    """Which rows of each training task each evaluation split has too.

    exact: the same prompt, or prompt and answer; normalised: the same after case, punctuation and white space were
    folded; ngram: any N_WORDS words in a row that are not boilerplate. A text or run that more than 1% of a split's
    items have, and at least five, is how they are asked: it flags no row, and is counted; so does a run of which more
    than half is of such a one.
    whole: splits that are not compared by runs. hash_bits: fewer than 64 only if a test wants collisions; every hit
    is held against the words.
    """
    vocabulary = new_vocabulary()
    splits = {name: _index_split(items, vocabulary, name not in whole, hash_bits) for name, items in evaluation.items()}
    overlaps = []
    for task, rows in training.items():
        marks = {name: _Marks(split) for name, split in splits.items()}
        for start in range(0, len(rows), CHUNK_ROWS):
            _mark(rows[start : start + CHUNK_ROWS], start, marks, vocabulary, hash_bits)
        overlaps += [mark.overlap(task, name, rows, vocabulary) for name, mark in marks.items()]
    return Report(tuple(overlaps))


def apply(report: Report, rows: Sequence[AnyRow], mode: str) -> list[AnyRow]:
    """The rows to train on. mode: 'drop' leaves out those that an evaluation split has too, 'warn' keeps them all.

    'fail' raises DataError with counts and examples where there are any; so does 'drop' where a task has none left.
    """
    found = {row.task: report.flagged(row.task) for row in rows}
    if mode == "warn" or not any(found.values()):
        return list(rows)
    if mode == "fail":
        said = "\n".join(report.lines())
        raise DataError(
            f"{sum(map(len, found.values()))} training rows are in an evaluation split too; train without them "
            f"(`--on-contamination drop`), or keep them knowingly (`warn`)\n{said}"
        )
    seen: Counter[str] = Counter()
    kept = []
    for row in rows:
        if seen[row.task] not in found[row.task]:
            kept.append(row)
        seen[row.task] += 1
    for task, n in seen.items():
        if len(found[task]) == n:
            raise DataError(
                f"task {task!r}: all {n} training rows are in an evaluation split too, so none is left to train on; "
                "evaluate on another split, or keep them knowingly (`--on-contamination warn`)\n"
                + "\n".join(report.lines())
            )
    return kept


@frozen
class _Split:
    """One evaluation split, ready to be looked up: text -> its first item, and how many items have it."""

    ids: tuple[str, ...]
    whole: Mapping[Level, Mapping[Hashable, list[int]]]
    runs: RunIndex

    @property
    def common(self) -> int:
        """From how many items on a text is boilerplate."""
        return max(BOILERPLATE_ITEMS, int(len(self.ids) * BOILERPLATE_PART) + 1)


def _index_split(items: Sequence[RowText], vocabulary: Vocabulary, by_runs: bool, hash_bits: int) -> _Split:
    whole: dict[Level, dict[Hashable, list[int]]] = {"exact": {}, "normalised": {}}
    numbered = []
    for i, item in enumerate(items):
        prompt, answer = words_of(item.prompt), words_of(item.answer)
        for level, keys in _keys_by_level(item, prompt, answer):
            for key in keys:
                first = whole[level].setdefault(key, [i, 0])
                first[1] += 1
        if by_runs:
            numbered.append(vocabulary.learn(prompt + answer))
    return _Split(tuple(item.id for item in items), whole, build_index(numbered, hash_bits))


def _keys(prompt: str, answer: str) -> list[Hashable]:
    """What a whole row is known by: its prompt, and prompt and answer; nothing if there is no text."""
    whole: list[Hashable] = [(prompt, answer)] if prompt.strip() or answer.strip() else []
    return [prompt, *whole] if prompt.strip() else whole


def _keys_by_level(text: RowText, prompt: list[str], answer: list[str]) -> tuple[tuple[Level, list[Hashable]], ...]:
    """The keys of a row as it is and by its words."""
    return ("exact", _keys(text.prompt, text.answer)), (
        "normalised",
        _keys(normalised(text.prompt, prompt), normalised(text.answer, answer)),
    )


@frozen
class _Marks:
    """What was found of one training task in one split. whole: level -> row -> item."""

    split: _Split
    whole: dict[Level, dict[int, int]] = field(factory=lambda: {"exact": {}, "normalised": {}})
    # Row -> place of its first shared run in the split's index, boilerplate apart.
    runs: dict[int, int] = field(factory=dict)
    boilerplate: set[int] = field(factory=set)

    def overlap(self, task: str, evaluation: str, rows: Sequence[RowText], vocabulary: Vocabulary) -> Overlap:
        exact, normalised = self.whole["exact"], self.whole["normalised"]
        by_level: dict[Level, dict[int, int]] = {
            "exact": exact,
            "normalised": {row: item for row, item in normalised.items() if row not in exact},
            "ngram": {row: at for row, at in self.runs.items() if row not in exact and row not in normalised},
        }
        flagged = {row for found in by_level.values() for row in found}
        examples: list[Shared] = []
        for level, found in by_level.items():
            for row in sorted(found)[: EXAMPLES_SHOWN - len(examples)]:
                examples.append(self._shown(level, rows[row], found[row], vocabulary))
        return Overlap(
            task,
            evaluation,
            len(rows),
            len(self.split.ids),
            {level: tuple(sorted(found)) for level, found in by_level.items()},
            len(self.boilerplate - flagged),
            tuple(examples),
        )

    def _shown(self, level: Level, row: RowText, at: int, vocabulary: Vocabulary) -> Shared:
        if level != "ngram":
            text = " ".join((row.prompt if row.prompt.strip() else row.answer).split())
            return Shared(level, row.id, self.split.ids[at], _short(text))
        index = self.split.runs
        start = int(index.firsts[at])
        text = " ".join(vocabulary.words[number] for number in index.ids[start : start + N_WORDS])
        return Shared(level, row.id, self.split.ids[int(index.items[at])], _short(text))


def _mark(
    rows: Sequence[RowText], start: int, marks: Mapping[str, _Marks], vocabulary: Vocabulary, hash_bits: int
) -> None:
    """Looks a chunk of a task's rows up in every split. start: the place of its first row."""
    numbers = vocabulary.numbers
    numbered = []
    for row, text in enumerate(rows, start):
        prompt, answer = words_of(text.prompt), words_of(text.answer)
        for level, keys in _keys_by_level(text, prompt, answer):
            for mark in marks.values():
                for key in keys:
                    item, times = mark.split.whole[level].get(key, (0, 0))
                    if times >= mark.split.common:
                        mark.boilerplate.add(row)
                    elif times:
                        mark.whole[level].setdefault(row, item)
        numbered.append([*map(numbers.get, chain(prompt, answer), repeat(UNKNOWN))])
    runs = runs_of(numbered, hash_bits)
    for mark in marks.values():
        mine, theirs = shared_runs(mark.split.runs, runs)
        common = mark.split.runs.counts[theirs] >= mark.split.common
        common |= near(runs.starts[mine], runs.starts[mine[common]], N_WORDS // 2)
        mark.boilerplate.update((runs.texts[mine[common]] + start).tolist())
        # The row's first run in the order of its words.
        for place, at in sorted(zip(mine[~common].tolist(), theirs[~common].tolist(), strict=True)):
            mark.runs.setdefault(int(runs.texts[place]) + start, at)


def _short(text: str) -> str:
    return text if len(text) <= CHARS_SHOWN else text[: CHARS_SHOWN - 3] + "..."
