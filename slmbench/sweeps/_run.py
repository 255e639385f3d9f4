"""A sweep's points, one after another: trained, scored, and written down whatever becomes of them."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from typing import Protocol

from attrs import frozen

from slmbench.console import say
from slmbench.errors import SlmbenchError
from slmbench.files import only_writer, write_json
from slmbench.machine import give_back_freed
from slmbench.paths import shown
from slmbench.runs import Run, read_training
from slmbench.sweeps._grid import Point
from slmbench.values import JsonObject


class Work(Protocol):
    """How a point is trained and scored. Both keep what is finished."""

    def train(self, point: Point, place: str) -> Sequence[str]:
        """The folders of what was trained, below `place`."""

    def evaluate(self, point: Point, folders: Sequence[str]) -> Sequence[Run]:
        """As many runs for the base as for each of the folders, the base's first, then in the folders' order."""


@frozen
class TrainedAdapter:
    """What one adapter of a point cost, and its runs. None if its folder doesn't say.

    memory_bytes: the peak while it was trained, of the GPU if there was one.
    """

    adapter: str
    folder: str
    parameters: int | None
    bytes: int
    train_s: float | None
    memory_bytes: int | None
    runs: tuple[Run, ...]


@frozen
class Outcome:
    """What became of a point. reason: why it has no result; None if it has one. base: the untrained model's runs."""

    point: Point
    trained: tuple[TrainedAdapter, ...] = ()
    base: tuple[Run, ...] = ()
    reason: str | None = None


def run_sweep(points: Sequence[Point], work: Work, out: str) -> list[Outcome]:
    """Every point's outcome, in order, one after another; see `run_point`.

    A sweep that is run again goes on where it was. Raises SlmbenchError if another process sweeps into `out`.
    """
    outcomes = []
    with only_writer(os.path.join(out, "sweep", ".lock")):
        for number, point in enumerate(points, 1):
            say(f"point {number} of {len(points)}: {point.name}")
            outcomes.append(run_point(point, work, out))
    return outcomes


def run_point(point: Point, work: Work, out: str) -> Outcome:
    """Trains and scores a point, and writes down what became of it, in `<out>/points/<name>`.

    A point that fails has its reason in the outcome. Point, work and outcome are data: another process may do this.
    """
    give_back_freed()
    folder, trace = os.path.join(out, "points", point.name), ""
    try:
        outcome = _outcome(point, work, folder)
    except Exception as error:
        # Whatever it is: the other points of a night are worth more than an early end, and the reason is kept.
        outcome = Outcome(point, reason=_reason(error))
        say(f"point {point.name} failed, and its error is recorded; the sweep goes on")
        trace = "" if isinstance(error, SlmbenchError) else traceback.format_exc()
    write_json(os.path.join(folder, "point.json"), _as_json(outcome) | {"traceback": trace})
    return outcome


def _outcome(point: Point, work: Work, folder: str) -> Outcome:
    folders = list(work.train(point, folder))
    runs = list(work.evaluate(point, folders))
    each, over = divmod(len(runs), len(folders) + 1)
    if over or not each:
        raise SlmbenchError(f"{len(runs)} runs for a base and {len(folders)} adapters; expected as many for each")
    parts = [tuple(runs[i : i + each]) for i in range(0, len(runs), each)]
    trained = tuple(_trained(path, part) for path, part in zip(folders, parts[1:], strict=True))
    return Outcome(point, trained, parts[0])


def _trained(folder: str, runs: tuple[Run, ...]) -> TrainedAdapter:
    try:
        record = read_training(folder)
    except FileNotFoundError as error:
        raise SlmbenchError(f"{shown(folder)} has no training.json; train it again") from error
    weights = sum(
        os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder) if name.endswith(".safetensors")
    )
    memory = record.memory.peak_bytes or record.ram_peak_bytes
    return TrainedAdapter(
        os.path.basename(os.path.abspath(folder)),
        folder,
        record.trainable_parameters,
        weights,
        record.train_s,
        memory,
        runs,
    )


def _reason(error: BaseException) -> str:
    said = str(error).strip() or "out of memory"
    said = " ".join(said.split())
    return said if isinstance(error, SlmbenchError) else f"{type(error).__name__}: {said}"[:600]


def _as_json(outcome: Outcome) -> JsonObject:
    return {
        "schema": 1,
        "name": outcome.point.name,
        "changed": dict(outcome.point.changed),
        "status": "failed" if outcome.reason is not None else "ok",
        "reason": outcome.reason,
        "adapters": {part.adapter: part.folder for part in outcome.trained},
        "runs": [run.run_id for run in [*outcome.base, *(run for part in outcome.trained for run in part.runs)]],
    }
