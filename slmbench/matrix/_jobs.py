"""From cells to jobs: one base with all that is put on it and all its tasks is one, so that its weights load once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from attrs import asdict, evolve, frozen

from slmbench.matrix._expand import Grid
from slmbench.matrix._values import GridAsking, GridCell, GridSubject, GridTraining
from slmbench.scheduling import Job, JobForecast, Kind, job_of
from slmbench.values import JsonObject

WORTH_LOADING_S = 60.0
"""A part of a base's work that takes less isn't worth loading the weights once more."""
Forecaster = Callable[[Sequence[GridCell]], JobForecast]
TrainingForecaster = Callable[[GridTraining], JobForecast]


@frozen
class EvaluationWork:
    """What a job of kind evaluate does: cells of one base, held in one way."""

    model: str
    held: str
    cells: tuple[GridCell, ...]
    twin: bool
    data: str
    allow_unsafe_code: bool = False
    no_texts: bool = False

    def as_json(self) -> JsonObject:
        subjects = list(dict.fromkeys(cell.subject for cell in self.cells))
        askings = list(dict.fromkeys(cell.asking for cell in self.cells))
        number = {one: i for i, one in enumerate([*subjects, *askings])}
        first = len(subjects)
        return {
            "model": self.model,
            "held": self.held,
            "subjects": [asdict(one) for one in subjects],
            "askings": [one.as_json() for one in askings],
            "cells": [
                [number[one.subject], number[one.asking] - first, one.task, one.task_digest] for one in self.cells
            ],
            "twin": self.twin,
            "data": self.data,
            "allow_unsafe_code": self.allow_unsafe_code,
            "no_texts": self.no_texts,
        }

    @classmethod
    def of_json(cls, work: JsonObject) -> EvaluationWork:
        subjects = [GridSubject(**one) for one in work["subjects"]]
        askings = [GridAsking.of_json(one) for one in work["askings"]]
        cells = tuple(GridCell(subjects[who], askings[how], task, digest) for who, how, task, digest in work["cells"])
        told = {key: work[key] for key in ("model", "held", "twin", "data", "allow_unsafe_code", "no_texts")}
        return cls(cells=cells, **told)


def jobs_of(
    grid: Grid,
    forecast: Forecaster,
    forecast_training: TrainingForecaster,
    *,
    share_s: float | None,
    allow_unsafe_code: bool = False,
    no_texts: bool = False,
    begun: Iterable[Job] = (),
) -> list[Job]:
    """The jobs of a matrix. share_s: a worker's share of the time; a base whose job takes longer is split by tasks.

    begun: jobs of earlier calls that were begun. One whose cells are all asked for as they were stays what it is,
    whatever forecasts say by now: under its key stands how it ended and how often it was killed.
    """
    earlier = _by_base(begun)
    making = {training.place: _training_job(grid, training, forecast_training(training)) for training in grid.trainings}
    groups: dict[tuple[str, str], list[GridCell]] = {}
    for cell in grid.cells:
        groups.setdefault((cell.subject.model, cell.subject.held), []).append(cell)
    jobs = list(making.values())
    for (model, held), cells in groups.items():
        base = EvaluationWork(model, held, (), grid.spec.twin, grid.spec.data, allow_unsafe_code, no_texts)
        same, left = _still_asked(earlier.get((model, held), ()), cells, base)
        for part in [*same, *(_parts(left, forecast, share_s) if left else ())]:
            work = evolve(base, cells=tuple(part))
            needs = dict.fromkeys(making[str(cell.subject.place)].key for cell in part if cell.subject.made)
            name = os.path.basename(model) + (" (packed)" if held else "")
            jobs.append(
                job_of(
                    "evaluate",
                    name,
                    work.as_json(),
                    [cell.key for cell in part],
                    needs=list(needs),
                    forecast=forecast(part),
                )
            )
    return jobs


def _by_base(jobs: Iterable[Job]) -> dict[tuple[str, str], list[EvaluationWork]]:
    """(model, held) -> what jobs do of it; jobs that an earlier version planned otherwise are left out."""
    found: dict[tuple[str, str], list[EvaluationWork]] = {}
    for job in jobs:
        if job.kind == "evaluate":
            with contextlib.suppress(KeyError, TypeError, ValueError, IndexError):
                work = EvaluationWork.of_json(job.work)
                found.setdefault((work.model, work.held), []).append(work)
    return found


def _still_asked(
    earlier: Sequence[EvaluationWork], cells: Sequence[GridCell], base: EvaluationWork
) -> tuple[list[list[GridCell]], list[GridCell]]:
    """(the cells of each earlier job that would be done now as it was, the other cells)."""
    if not earlier:
        return [], list(cells)
    left = dict.fromkeys(cells)
    same = []
    for work in earlier:
        if evolve(work, cells=()) == base and work.cells and all(cell in left for cell in work.cells):
            same.append(list(work.cells))
            for cell in work.cells:
                left.pop(cell, None)
    return same, list(left)


def _training_job(grid: Grid, training: GridTraining, forecast: JobForecast) -> Job:
    kind: Kind = "merge" if training.kind == "merge" else "train"
    work = asdict(training) | {"twin": grid.spec.twin, "data": grid.spec.data}
    # What it takes, not what it is: the recipe says it once more where it is done.
    work = {key: _listed(value) for key, value in work.items() if key != "processes"}
    forecast = evolve(forecast, processes=training.processes)
    name = f"{training.name} seed {training.seed}"
    return job_of(kind, name, work, [key for _, key in training.products], forecast=forecast)


def training_of(work: JsonObject) -> GridTraining:
    """What a job of kind train or merge makes, out of its work."""
    known = {key: value for key, value in work.items() if key not in ("twin", "data")}
    known |= {key: tuple(known[key]) for key in ("overrides", "only")}
    return GridTraining(**(known | {"products": tuple((name, key) for name, key in work["products"])}))


def _listed(value: object) -> object:
    return [_listed(one) for one in value] if isinstance(value, tuple) else value


def _parts(cells: Sequence[GridCell], forecast: Forecaster, share_s: float | None) -> list[list[GridCell]]:
    """Cells of one base, split by tasks where together they take longer than a worker's share."""
    whole = forecast(cells).seconds
    if share_s is None or whole is None or whole <= max(share_s, WORTH_LOADING_S):
        return [list(cells)]
    by_task: dict[str, list[GridCell]] = {}
    for cell in cells:
        by_task.setdefault(cell.task, []).append(cell)
    count = min(len(by_task), -(-int(whole) // int(max(share_s, WORTH_LOADING_S))))
    # The longest first, each into the part that has the least so far.
    parts: list[list[GridCell]] = [[] for _ in range(count)]
    taken = [0.0] * count
    seconds = {task: forecast(part).seconds or 0.0 for task, part in by_task.items()}
    for task in sorted(by_task, key=lambda task: (-seconds[task], task)):
        least = min(range(count), key=lambda i: (taken[i], i))
        parts[least] += by_task[task]
        taken[least] += seconds[task]
    # In the matrix's order, whatever was put where first: the same cells are the same job.
    place = {cell: number for number, cell in enumerate(cells)}
    return [sorted(part, key=place.__getitem__) for part in parts if part]


def able_of(job: Job, made: Mapping[str, str]) -> tuple[str, ...]:
    """What a job that scores makes of what is there: keys of its base's cells, and of those of which all is made."""
    wanted = set(job.makes)
    return tuple(
        cell.key
        for cell in EvaluationWork.of_json(job.work).cells
        if cell.key in wanted and (not cell.subject.made or cell.subject.identity in made)
    )


def missing_of(jobs: Sequence[Job], made: Mapping[str, str]) -> list[Job]:
    """The jobs that have something to make, of which only that is asked, and needs that are still to be done."""
    missing = {
        job.key: evolve(job, makes=tuple(key for key in job.makes if key not in made))
        for job in jobs
        if any(key not in made for key in job.makes)
    }
    return [evolve(job, needs=tuple(need for need in job.needs if need in missing)) for job in missing.values()]
