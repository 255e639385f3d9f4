"""Whether an item is shown with its answer before it is asked."""

from __future__ import annotations

from slmbench.task._task import Task
from slmbench.values import Example


def is_among_its_shots(task: Task, example: Example) -> bool:
    """Whether one of an item's own shots asks its question; of choice tasks, with its answer. White space aside."""
    question = _spaced(task.question(example))
    if not question:
        return False
    answer = _spaced(task.answer(example))
    return any(
        _spaced(shot.user) == question and (not example.choices or _spaced(shot.target.text) == answer)
        for shot in task.shots(example)
    )


def _spaced(text: str) -> str:
    return " ".join(text.split())
