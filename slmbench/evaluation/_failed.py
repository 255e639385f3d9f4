"""Tasks of an evaluation that failed while others went on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from attrs import frozen

from slmbench.console import say
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
        lines = _lines_of(self.failures)
        told = f"{len(self.failures)} of {len(self.placed)} runs failed; {again} tries them again, and keeps the others"
        super().__init__("\n".join([*lines, told]))

    @property
    def runs(self) -> list[Run]:
        """Those that are finished."""
        return [run for run in self.placed if run is not None]


def _lines_of(failures: Sequence[TaskFailure]) -> list[str]:
    # What is wrong with a model fails all its tasks, and is told once.
    alike: dict[tuple[str, str], list[str]] = {}
    for one in failures:
        alike.setdefault((one.who, str(one.error)), []).append(one.task)
    return [f"{', '.join(tasks)} of {who} failed: {said}" for (who, said), tasks in alike.items()]


def made_and_failed(evaluate: Callable[[], Sequence[Run]]) -> tuple[list[Run], TasksFailed | None]:
    """The runs of an evaluation, and what failed beside them. Raises TasksFailed if there is none."""
    try:
        return list(evaluate()), None
    except TasksFailed as error:
        if not error.runs:
            raise
        return error.runs, error


@contextlib.contextmanager
def told_if_cut_short(failures: Iterable[TaskFailure]) -> Iterator[None]:
    """Tells of what has failed by then if something else ends the block, as nobody would hear of it after that."""
    try:
        yield
    except BaseException:
        for line in _lines_of(list(failures)):
            say(line)
        raise


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
