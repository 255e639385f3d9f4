"""Which row is trained on when: tasks mixed to their shares, whole rows packed, the same plan for the same seed."""

from __future__ import annotations

import math
import random
from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, count, groupby, islice, pairwise
from typing import Any, Protocol

from attrs import evolve, frozen

from slmbench.errors import DataError, UsageError
from slmbench.schema import MixingSpec
from slmbench.values import JsonObject

# From how many of the next rows a batch is filled when rows are packed: far enough to fill it to a percent, near
# enough that the shares of the tasks hold over a few batches.
LOOKAHEAD_ROWS = 128
MAX_DRAWS = 5_000_000
"""Rows in all steps together: a plan of so many takes a gigabyte."""


class Sized(Protocol):
    """What a plan has to know of a row."""

    @property
    def task(self) -> str: ...

    @property
    def length(self) -> int: ...


@frozen
class Plan:
    """The order of a training. batches: row indices of each micro-batch; every step has `accumulate` of them.

    wanted: task -> its share of what `unit` counts. epoch_rows: how many rows have been drawn where each epoch but the
    last one ends; an epoch is as many rows (or tokens) as there are. pack_tokens: what a packed micro-batch may hold;
    None if batches are of so many rows.
    """

    batches: tuple[tuple[int, ...], ...]
    accumulate: int
    wanted: Mapping[str, float]
    unit: str
    epoch_rows: tuple[int, ...]
    pack_tokens: int | None = None

    @property
    def steps(self) -> int:
        return len(self.batches) // self.accumulate

    def after(self, steps: int) -> Plan:
        """What is left of it when so many steps have been made."""
        batches = self.batches[steps * self.accumulate :]
        drawn = sum(map(len, self.batches[: steps * self.accumulate]))
        return evolve(self, batches=batches, epoch_rows=tuple(end - drawn for end in self.epoch_rows if end > drawn))

    def largest(self, rows: Sequence[Sized], processes: int = 1) -> tuple[int, ...]:
        """The micro-batch with the most tokens, padding apart: of several processes, the largest share of one.

        Of a plan of no steps it is the longest row.
        """
        if not self.batches:
            return (max(range(len(rows)), key=lambda i: rows[i].length),)
        parts = (part for batch in self.batches for part in shared_out(batch, rows, processes))
        return max(parts, key=lambda part: sum(rows[i].length for i in part))

    def part(self, rows: Sequence[Sized], rank: int, processes: int) -> tuple[tuple[int, ...], ...]:
        """What one of several processes takes of each micro-batch; nothing of one with fewer rows than processes."""
        if processes == 1:
            return self.batches
        return tuple(shared_out(batch, rows, processes)[rank] for batch in self.batches)

    def realised(self, rows: Sequence[Sized], upto_batches: int | None = None) -> JsonObject:
        """What the first `upto_batches` micro-batches (None: all) are made of, for training.json.

        {"unit", "wanted": {task: share}, "tasks": {task: {"rows", "tokens", "share"}}, "epochs": [{"epoch", "rows",
        "tokens", "tasks"}], "packing"?: {"tokens_a_batch", "fill"}}; a share is of what `unit` counts.
        """
        batches = self.batches[:upto_batches]
        order = [i for batch in batches for i in batch]
        ends = [end for end in self.epoch_rows if end < len(order)] + [len(order)]
        epochs = []
        for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False), 1):
            epochs.append({"epoch": number, **self._made_of(rows, order[start:end])})
        found: dict[str, Any] = {
            "unit": self.unit,
            "wanted": dict(self.wanted),
            **self._made_of(rows, order),
            "epochs": epochs,
        }
        if self.pack_tokens is not None and batches:
            fill = sum(rows[i].length for i in order) / (self.pack_tokens * len(batches))
            found["packing"] = {"tokens_a_batch": self.pack_tokens, "batches": len(batches), "fill": round(fill, 4)}
        return found

    def _made_of(self, rows: Sequence[Sized], order: Sequence[int]) -> JsonObject:
        tasks = {task: {"rows": 0, "tokens": 0} for task in self.wanted}
        for i in order:
            tasks[rows[i].task]["rows"] += 1
            tasks[rows[i].task]["tokens"] += rows[i].length
        key = "tokens" if self.unit == "tokens" else "rows"
        whole = sum(part[key] for part in tasks.values())
        return {
            "rows": len(order),
            "tokens": sum(part["tokens"] for part in tasks.values()),
            "tasks": {
                task: {**part, "share": round(part[key] / whole, 6) if whole else 0.0} for task, part in tasks.items()
            },
        }


def shared_out(batch: Sequence[int], rows: Sequence[Sized], processes: int) -> list[tuple[int, ...]]:
    """A micro-batch's rows, each given to one process, so that all have about as many tokens.

    The longest first, always to whoever has the fewest tokens; a process has its rows in the batch's order.
    """
    if processes == 1:
        return [tuple(batch)]
    tokens, taken = [0] * processes, [list[int]() for _ in range(processes)]
    for place in sorted(range(len(batch)), key=lambda place: -rows[batch[place]].length):
        least = min(range(processes), key=tokens.__getitem__)
        taken[least].append(place)
        tokens[least] += rows[batch[place]].length
    return [tuple(batch[place] for place in sorted(places)) for places in taken]


@frozen
class _Draw:
    """One row of the order. before: rows (or tokens) drawn before it."""

    row: int
    epoch: int
    before: int


_Batch = list[_Draw]


def plan_batches(
    rows: Sequence[Sized],
    *,
    mixing: MixingSpec | None,
    batch: int,
    accumulate: int,
    steps: int | None,
    epochs: float | None,
    seed: int,
    pack_tokens: int | None = None,
) -> Plan:
    """The micro-batches of a training, from nothing but the rows' tasks and lengths, the settings and the seed.

    mixing None: all rows, shuffled, once an epoch. Else every task gets its share, held at every point of the order:
    no task is ahead of it by more than a row. One that is done with its rows begins anew, in a new order.
    steps: so many, whatever epochs they make; a plan of fewer is the beginning of one of more. Else `epochs` (1 unless
    given): what is left at the end makes a smaller last step, filled up where a micro-batch of it would have no row.
    pack_tokens: micro-batches are filled to that many tokens, not to `batch` rows; rows stay whole, those of two epochs
    apart. Raises DataError without rows, UsageError if a task has no weight.
    """
    if not rows:
        raise DataError("there are no training rows, so there is nothing to train on")
    wanted = shares(rows, mixing)
    unit = "examples" if mixing is None else mixing.unit
    sizes = [row.length if unit == "tokens" else 1 for row in rows]
    _refuse_endless(len(rows), batch * accumulate, steps, epochs)
    draws = _order(rows, sizes, wanted, mixing, seed)
    lengths = [row.length for row in rows]
    if steps is not None:
        made = _filled(draws, lengths, pack_tokens) if pack_tokens is not None else _of_rows(draws, batch)
        batches = list(islice(made, steps * accumulate))
    else:
        # Against the rounding of, say, 0.1 * 30.
        target = (1.0 if epochs is None else epochs) * sum(sizes) - 1e-6
        drawn = [next(draws)]
        while (following := next(draws)).before < target:
            drawn.append(following)
        draws = chain([following], draws)
        if pack_tokens is not None:
            batches = list(_filled(drawn, lengths, pack_tokens))
        else:
            whole = len(drawn) // (batch * accumulate) * batch * accumulate
            batches, left = list(_of_rows(drawn[:whole], batch)), drawn[whole:]
            batches += [left[i::accumulate] for i in range(accumulate) if left[i::accumulate]]
        _complete_last_step(batches, accumulate, draws)
    order = [draw for some in batches for draw in some]
    ends = [i for i, (a, b) in enumerate(pairwise(order), 1) if a.epoch != b.epoch]
    rows_of = tuple(tuple(draw.row for draw in some) for some in batches)
    return Plan(rows_of, accumulate, wanted, unit, tuple(ends), pack_tokens)


def _refuse_endless(rows: int, a_step: int, steps: int | None, epochs: float | None) -> None:
    asked = steps * a_step if steps is not None else (1.0 if epochs is None else epochs) * rows
    if asked > MAX_DRAWS:
        given = f"optim.epochs {epochs:g} of {rows:,}" if steps is None else f"optim.steps {steps:,} of {a_step:,}"
        raise UsageError(f"{given} rows is {asked:,.0f} rows in all; at most {MAX_DRAWS:,} can be laid out")


def shares(rows: Sequence[Sized], mixing: MixingSpec | None) -> dict[str, float]:
    """task -> the share that it is to have of the rows (or tokens), in the tasks' order in rows; they sum to 1."""
    amounts: dict[str, int] = {}
    for row in rows:
        amounts[row.task] = amounts.get(row.task, 0) + (row.length if mixing and mixing.unit == "tokens" else 1)
    weights: dict[str, float]
    if mixing is None or mixing.by == "proportional":
        weights = dict(amounts)
    elif mixing.by == "equal":
        weights = dict.fromkeys(amounts, 1.0)
    elif mixing.by == "temperature":
        # Logarithms, so that no size is too large for a power.
        largest = max(amounts.values())
        weights = {
            task: math.exp(math.log(n / largest) / float(mixing.temperature or 1)) for task, n in amounts.items()
        }
    else:
        missing = [task for task in amounts if task not in mixing.weights]
        if missing and len(amounts) > 1:
            names = ", ".join(map(repr, missing))
            raise UsageError(f"mixing.weights has no share for {names}; add one, or remove it from the adapter's tasks")
        weights = {task: mixing.weights.get(task, 1.0) for task in amounts}
    whole = sum(weights.values())
    return {task: weight / whole for task, weight in weights.items()}


def _order(
    rows: Sequence[Sized], sizes: Sequence[int], wanted: Mapping[str, float], mixing: MixingSpec | None, seed: int
) -> Iterator[_Draw]:
    """Rows without end."""
    whole = sum(sizes)
    drawn = 0
    for row in _mixed(rows, sizes, wanted, mixing, seed):
        yield _Draw(row, drawn // whole, drawn)
        drawn += sizes[row]


def _mixed(
    rows: Sequence[Sized], sizes: Sequence[int], wanted: Mapping[str, float], mixing: MixingSpec | None, seed: int
) -> Iterator[int]:
    if mixing is None:
        for number in count():
            yield from _shuffled(range(len(rows)), f"rows {seed} {number}")
    by_task: dict[str, list[int]] = {task: [] for task in wanted}
    for index, row in enumerate(rows):
        by_task[row.task].append(index)
    if mixing is None or mixing.by != "proportional":
        yield from _by_deficit({task: _again(own, task, seed) for task, own in by_task.items()}, sizes, wanted)
    for number in count():
        # An epoch at a time, so that no rounding gives one task a row of another's.
        passes = {task: iter(_shuffled(own, f"{task} {seed} {number}")) for task, own in by_task.items()}
        yield from _by_deficit(passes, sizes, wanted)


def _again(own: Sequence[int], task: str, seed: int) -> Iterator[int]:
    for number in count():
        yield from _shuffled(own, f"{task} {seed} {number}")


def _shuffled(indices: Sequence[int], key: str) -> list[int]:
    order = list(indices)
    random.Random(key).shuffle(order)
    return order


def _by_deficit(
    streams: Mapping[str, Iterator[int]], sizes: Sequence[int], wanted: Mapping[str, float]
) -> Iterator[int]:
    """Always a row of the task that is furthest behind its share; until all streams have ended."""
    left = dict(streams)
    got = dict.fromkeys(left, 0)
    drawn = 0
    while left:
        task = max(left, key=lambda task: (wanted[task] * drawn - got[task], wanted[task]))
        row = next(left[task], None)
        if row is None:
            del left[task]
            continue
        yield row
        got[task] += sizes[row]
        drawn += sizes[row]


def _of_rows(draws: Iterable[_Draw], batch: int) -> Iterator[_Batch]:
    draws = iter(draws)
    while some := list(islice(draws, batch)):
        yield some


def _filled(draws: Iterable[_Draw], lengths: Sequence[int], pack_tokens: int) -> Iterator[_Batch]:
    """Batches of up to `pack_tokens`, each begun with the oldest row of a window and filled with the best fits of it.

    A row that is longer than that is a batch of its own.
    """
    for _, epoch in groupby(draws, key=lambda draw: draw.epoch):
        # age -> draw, oldest first; and (length, -age), so that of equal rows the oldest is found.
        window: dict[int, _Draw] = {}
        by_length: list[tuple[int, int]] = []
        numbered = enumerate(epoch)
        while True:
            for age, draw in islice(numbered, LOOKAHEAD_ROWS - len(window)):
                window[age] = draw
                insort(by_length, (lengths[draw.row], -age))
            if not window:
                break
            age = next(iter(window))
            room = pack_tokens
            some: _Batch = []
            place = by_length.index((lengths[window[age].row], -age))
            while True:
                length, negative = by_length.pop(place)
                some.append(window.pop(-negative))
                room -= length
                place = bisect_right(by_length, (room, 0)) - 1
                if place < 0:
                    break
            yield some


def _complete_last_step(batches: list[_Batch], accumulate: int, draws: Iterator[_Draw]) -> None:
    """Makes the number of batches one of whole steps: the last step's fullest batches are parted, else rows added."""
    start = len(batches) - len(batches) % accumulate
    while len(batches) % accumulate:
        fullest = max(range(start, len(batches)), key=lambda i: len(batches[i]))
        if len(batches[fullest]) > 1:
            some = batches[fullest]
            batches[fullest : fullest + 1] = [some[: len(some) // 2], some[len(some) // 2 :]]
        else:
            batches.append([next(draws)])
