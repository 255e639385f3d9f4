"""Which rows several tasks need that aren't available: found out for all of them before anything is begun."""

from __future__ import annotations

from collections.abc import Iterable

from slmbench.datasets import fetch_rows, local_source
from slmbench.errors import MissingData, OfflineError, all_missing
from slmbench.task._task import Task

Need = tuple[Task, str]


def evaluation_needs(tasks: Iterable[Task]) -> list[Need]:
    """The splits that an evaluation of tasks reads: the evaluated ones and those of shots."""
    return [(task, split) for task in tasks for split in (task.spec.split, task.shot_split) if split is not None]


def training_needs(tasks: Iterable[Task]) -> list[Need]:
    """The splits that a training on tasks reads, those apart that it is only compared with."""
    return [(task, split) for task in tasks for split in (task.spec.train_split, task.shot_split) if split is not None]


def require_rows(needs: Iterable[Need], compared: Iterable[Need] = ()) -> None:
    """Raises one OfflineError that names everything that is missing, with the way to get each.

    compared: what training rows are only held against. Where a split is on the hub, this may download it.
    """
    missing = _missing(needs)
    known = {str(error) for error in missing}
    extra = [error for error in _missing(compared) if str(error) not in known]
    if not missing and not extra:
        return
    error = all_missing([*missing, *extra])
    if extra:
        names = ", ".join(dict.fromkeys(repr(one.dataset) for one in extra))
        raise OfflineError(
            f"{error}\nto train without comparing rows with {names}, which is evaluated: `--on-contamination warn`"
        )
    raise error


def left_out_notes(needs: Iterable[Need]) -> list[str]:
    """What to say of rows that `filled` leaves out of the splits that are read. Reads their rows."""
    notes = []
    for task, split in needs:
        when = " before rows are held out" if task.dataset.spec.holdout is not None else f" of split {split!r}"
        for column, n in task.rows(split).left_out.items() if task.dataset.spec.filled else ():
            notes.append(f"{task.name}: rows left out{when}, as they have no {column!r}: {n:,}")
    return list(dict.fromkeys(notes))


def _missing(needs: Iterable[Need]) -> list[MissingData]:
    found: dict[tuple[str, str], MissingData] = {}
    asked: set[tuple[str, str]] = set()
    for task, split in needs:
        key = (task.dataset.name, split)
        # Golden rows are always there, and what lies on this machine is read when it is used.
        at_hand = task.data != "auto" or task.has_rows(split)
        if key in asked or at_hand or split not in task.dataset.spec.split_names:
            continue
        asked.add(key)
        if local_source(task.dataset, split) is None:
            try:
                fetch_rows(task.dataset, split, limit=1)
            except MissingData as error:
                found[key] = error
    return list({str(error): error for error in found.values()}.values())
