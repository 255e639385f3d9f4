"""Tasks of an evaluation that failed while others went on."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from slmbench.errors import DataError, HookError, SlmbenchError
from slmbench.files import is_disk_full
from slmbench.runs import Run


@frozen
class TaskFailure:
    """A task that has no run. who: the model, with its adapter."""

    who: str
    task: str
    error: SlmbenchError


class TasksFailed(SlmbenchError):
    """Some tasks failed, each for its reason; what could be done of the others is done.

    placed: the runs in the order in which they were asked for, None in the place of each that failed. again: what tries
    those again.
    """

    def __init__(
        self, placed: Sequence[Run | None], failures: Sequence[TaskFailure], *, again: str = "the same command"
    ) -> None:
        self.placed = list(placed)
        self.failures = list(failures)
        # What is wrong with a model fails all its tasks, and is told once.
        alike: dict[tuple[str, str], list[str]] = {}
        for one in self.failures:
            alike.setdefault((one.who, str(one.error)), []).append(one.task)
        lines = [f"{', '.join(tasks)} of {who} failed: {said}" for (who, said), tasks in alike.items()]
        told = f"{len(self.failures)} of {len(self.placed)} runs failed; {again} tries them again, and keeps the others"
        super().__init__("\n".join([*lines, told]))

    @property
    def runs(self) -> list[Run]:
        """Those that are finished."""
        return [run for run in self.placed if run is not None]


def is_of_a_task(error: SlmbenchError) -> bool:
    """Whether another task may go well after an error: it is of rows, a hook or an answer.

    It is not where something else was asked for, or the disk is full. A hook's file or network is its own affair.
    """
    if isinstance(error, HookError):
        return not is_disk_full(error.__cause__)
    ours = isinstance(error, DataError) or type(error) is SlmbenchError
    return ours and not isinstance(error.__cause__, OSError)


def settled(
    placed: Sequence[Run | None], failures: Sequence[TaskFailure], *, again: str = "the same command"
) -> list[Run]:
    """All runs. Raises TasksFailed if some failed; the error itself if that was all that was asked for."""
    if failures and len(placed) == 1:
        raise failures[0].error
    if failures:
        raise TasksFailed(placed, failures, again=again)
    return [run for run in placed if run is not None]
