"""What comes of the rows of an evaluation: runs in their places, tasks that failed, adapters that can't be loaded."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence

from attrs import define, field

from slmbench.console import say
from slmbench.errors import FileError, SlmbenchError, UsageError
from slmbench.evaluation import (
    Encoded,
    EvaluationOptions,
    Opponent,
    Routed,
    TaskFailure,
    format_remarks,
    try_tasks,
)
from slmbench.formats import Format
from slmbench.models import LoadedModel, read_adapter
from slmbench.runs import AT_LIMIT, AT_STOP, NOT_IN_FORMAT, Run
from slmbench.task import Task


@define
class LostAdapters:
    """What is wrong with folders that can't be put on a base. base: its name. folders: all that are asked for.

    more: whoever asks has more to do, so that one is held apart also if there is no other. Else the last one's error is
    raised, and comes to light before anything was scored.
    """

    base: str
    folders: Sequence[str]
    more: bool = False
    errors: dict[str, SlmbenchError] = field(factory=dict)

    def sound(self, folders: Sequence[str]) -> list[str]:
        """The adapters among them whose files hold what they should. Raises UsageError for a folder without any."""
        for folder in folders if self.more or len(self.folders) > 1 else ():
            with self.held_apart(folder, (FileError, UsageError) if self.more else (FileError,)):
                read_adapter(folder)
        return [folder for folder in folders if folder not in self.errors]

    @contextlib.contextmanager
    def held_apart(
        self, folder: str, kinds: tuple[type[SlmbenchError], ...] = (FileError, UsageError)
    ) -> Iterator[None]:
        """Notes what is wrong with a folder, and tells it, if the block raises that."""
        try:
            yield
        except kinds as error:
            if not self.more and len(self.errors) + 1 >= len(self.folders):
                raise
            cause = error.__cause__
            for one in (error, cause):
                if one is not None:
                    one.__traceback__ = None  # Or the model would stay in memory with it.
            self.errors[folder] = error
            say(f"{self.name(folder)} is left out: {error}")

    def name(self, folder: str) -> str:
        return f"{self.base} + {os.path.basename(os.path.abspath(folder))}"


@define
class PlacedRuns:
    """What came of the rows so far. placed: a run for each row's tasks, None in the place of each that failed."""

    tasks: Sequence[Task]
    options: EvaluationOptions
    style: Format
    against: Mapping[str, Opponent]
    lost: LostAdapters
    placed: list[Run | None] = field(factory=list)
    failures: list[TaskFailure] = field(factory=list)
    _said: set[str] = field(factory=set)

    def score(self, model: LoadedModel, encoded: Encoded | None = None, routed: Routed | None = None) -> None:
        """A row: the model on all tasks. Raises what ends all rows."""
        if routed is None:
            self._said |= set(format_remarks(model, self.style))
        made, failed = try_tasks(model, self.tasks, self.options, encoded=encoded, routed=routed, against=self.against)
        self.placed += made
        self.failures += failed

    def miss(self, folder: str) -> None:
        """The row of an adapter that is lost."""
        error, who = self.lost.errors[folder], self.lost.name(folder)
        self.placed += [None] * len(self.tasks)
        self.failures += [TaskFailure(who, task.name, error) for task in self.tasks]

    def tell_remarks(self) -> None:
        """What the runs' records say beside their numbers, unless it was told before the first of its runs."""
        for run in filter(None, self.placed):
            n, samples = run.record["dataset"]["n"], (run.record.get("generation") or {}).get("samples", 1)
            for remark, count in run.record.get("remarks", {}).items():
                if remark not in self._said:
                    of_each = remark in (AT_LIMIT, AT_STOP) or remark.startswith(NOT_IN_FORMAT)
                    of = f"{n * samples} answers" if of_each and samples > 1 else f"{n}"
                    say(f"{run.run_id}: {remark}: {count} of {of}")
