"""Whether a plugin's hooks give the same when they are called again: without that no run can be repeated."""

from __future__ import annotations

from slmbench.checks._findings import Findings, problems_of
from slmbench.datasets import Row, fetch_rows, without_nan
from slmbench.errors import Problem, SlmbenchError
from slmbench.paths import shown
from slmbench.task import Task
from slmbench.values import Example

ROWS_MADE_TWICE = 3


def check_generator(task: Task, found: Findings) -> None:
    """Finds a `generate` that makes other rows the second time."""
    # The hook may keep a random state of its own; then an item can't be named by its number.
    n = min(ROWS_MADE_TWICE, (task.dataset.spec.generated or {})[task.spec.split])
    twice = [fetch_rows(task.dataset, task.spec.split, limit=n).rows for _ in range(2)]
    if twice[0] != twice[1]:
        message = (
            "generate() makes different rows when called again; draw from random.Random(f'{seed}/{split}/{index}')"
        )
        _at_hook(task, "generate", message, found)


def check_example_hook(task: Task, row: Row, number: int, example: Example, found: Findings) -> None:
    """Finds an `example` that makes other fields of a row than it made for this example."""
    if task.plugin is None or not task.plugin.has("example"):
        return
    # As text: the second call may change the very lists that the first one's fields hold.
    made = {key: repr(value) for key, value in example.fields.items()}
    try:
        again = {**row, **without_nan(task.plugin.call("example", dict(row), row=number))}
    except SlmbenchError as error:
        found.add(*problems_of(error, found))
        return
    other = sorted(key for key in made.keys() | again.keys() if made.get(key) != repr(again.get(key)))
    if other:
        message = (
            f"example() makes a different {other[0]!r} of the same row when called again; let it depend on the row "
            "alone, and leave the row's own lists as they are"
        )
        _at_hook(task, "example", message, found)


def _at_hook(task: Task, hook: str, message: str, found: Findings) -> None:
    assert task.plugin is not None
    code = getattr(getattr(task.plugin.module, hook), "__code__", None)  # A callable object has none.
    found.add(Problem(shown(task.plugin.path), code.co_firstlineno if code is not None else 0, 1, message))
