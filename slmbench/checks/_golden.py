"""The golden rows of a task: there, enough of them, in the data set's columns, and none of them twice."""

from __future__ import annotations

import json
import os

from slmbench.checks._findings import Findings, problems_in
from slmbench.datasets import Row, read_rows, sample_rows
from slmbench.errors import DataError, Problem
from slmbench.paths import shown
from slmbench.task import Task

GOLDEN_ROWS = 4


def no_golden_rows(path: str) -> Problem:
    message = f"is missing; write at least {GOLDEN_ROWS} rows in the data set's columns, for tests and `--data samples`"
    return Problem(shown(path), 0, 0, message)


def read_golden_rows(task: Task, found: Findings) -> list[Row]:
    """The rows of samples.jsonl, and what is wrong with them; none where they can't be read."""
    path = task.samples_path
    if not os.path.isfile(path):
        found.add(no_golden_rows(path))
        return []
    try:
        rows = sample_rows(task.dataset, path, task.spec.split).rows
        _check_twice(task, path, found)
    except DataError as error:
        found.add(*problems_in(error, path))
        return []
    wanted = max(GOLDEN_ROWS, task.spec.fewshot.n + task.spec.fewshot.skip if task.spec.fewshot.n else 0)
    if len(rows) < wanted:
        why = "its shots come from there under `--data samples`" if wanted > GOLDEN_ROWS else "edge cases among them"
        message = f"{len(rows)} golden rows; the task needs at least {wanted} ({why})"
        found.add(Problem(shown(path), len(rows), 1, message))
    return rows


def _check_twice(task: Task, path: str, found: Findings) -> None:
    declared = task.dataset.spec.columns
    columns = set(declared.values() if isinstance(declared, dict) else declared)
    with open(path, "rb") as file:
        lines = [number for number, line in enumerate(file, 1) if line.strip()]
    first: dict[str, int] = {}
    for number, row in zip(lines, read_rows(path), strict=True):
        # What a column that no declaration names says, nobody reads.
        kept = {key: row[key] for key in columns} if columns and columns <= set(row) else row
        key = json.dumps(kept, sort_keys=True)
        if key in first:
            message = f"the same row as line {first[key]}; write a different one"
            found.add(Problem(shown(path), number, 1, message))
        first.setdefault(key, number)
