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


def prompts_task(prompts: Sequence[str], catalog: Catalog) -> Task:
    """The task `prompts` with these as its rows, in their order."""
    task = load_task(PROMPTS, catalog)
    split = task.spec.split
    rows = Rows(task.dataset.name, split, "recipe", None, [{"prompt": prompt} for prompt in prompts])
    return evolve(task, rows={split: rows}, examples={}, shots={})
