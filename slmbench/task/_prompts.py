"""Free prompts as a task: what a person wants to read the answers to, and nothing to hold them to."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from slmbench.catalog import Catalog
from slmbench.datasets import Rows
from slmbench.task._load import load_task
from slmbench.task._task import Task

PROMPTS = "prompts"
"""The task that asks them."""


SOURCE = "recipe"
"""Where the rows of such a task are from, as a record says it."""


def limit_for(task: Task, limit: int | None) -> int | None:
    """How many of a task's items are asked: the first `limit` of a data set's, and every prompt that somebody wrote."""
    split = task.spec.split
    given = task.name == PROMPTS and task.has_rows(split) and task.rows(split).source == SOURCE
    return None if given else limit


def prompts_task(prompts: Sequence[str], catalog: Catalog) -> Task:
    """The task `prompts` with these as its rows, in their order."""
    task = load_task(PROMPTS, catalog)
    split = task.spec.split
    rows = Rows(task.dataset.name, split, SOURCE, None, [{"prompt": prompt} for prompt in prompts])
    return evolve(task, rows={split: rows}, examples={}, shots={})
