"""What jobs will take, from what past runs took: seconds, tokens, memory. What nothing tells stays unknown."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

from slmbench.errors import FileError
from slmbench.foreign import Foreign, read_model
from slmbench.machine import processors
from slmbench.matrix._values import GridCell, GridTraining
from slmbench.runs import read_training
from slmbench.scheduling import JobForecast

LOOKED_AT = 3
"""Records of one model on one task: more say nothing new, and ten thousand would take seconds to read."""
LOADING_S = 4.0
"""A job's own: libraries and weights, where a run of seconds tells nothing of them."""


class _Model(Foreign):
    name: str
    parameters: int | None = None


class _Dataset(Foreign):
    n: int
    source: str | None = None


class _Hardware(Foreign):
    cpu: str | None = None
    gpu: str | None = None


class _Cost(Foreign):
    seconds: float | None = None
    tokens_per_s: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    ram_peak_B: int | None = None
    vram_peak_B: int | None = None
    n_resumed: int | None = None


class _PastRecord(Foreign):
    model: _Model
    dataset: _Dataset
    limit: int | None = None
    hardware: _Hardware
    status: str
    cost: _Cost


@frozen(kw_only=True)
class PastCost:
    """What one run took. seconds, tokens: an item's; None if the record doesn't say. here: on a machine like this."""

    items: int
    whole: bool
    here: bool
    seconds: float | None
    tokens: float | None
    tokens_per_s: float | None
    memory_bytes: int | None
    gpu_bytes: int | None


class PastCosts:
    """Finished runs of some folders, of which only as many records are read as tell something new."""

    def __init__(self, folders: Iterable[str], trained: str, items: Mapping[str, int | None] | None = None) -> None:
        """folders: with run folders in them. trained: where the trainings of a matrix lie. items: task -> its size."""
        self._trained, self._items = trained, items or {}
        self._names: dict[tuple[str, str], list[str]] = {}
        self._read: dict[tuple[str, str], list[PastCost]] = {}
        for folder in folders:
            for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
                parts = name.split("__")
                if len(parts) >= 3:
                    key = ("__".join(parts[:-2]).partition("+")[0], parts[-2])
                    self._names.setdefault(key, []).append(os.path.join(folder, name))

    def of(self, model: str, task: str) -> list[PastCost]:
        """What runs of a model on a task took, of itself or with something on it."""
        if (model, task) not in self._read:
            found = [self._cost(folder) for folder in self._names.get((model, task), [])[:LOOKED_AT]]
            self._read[model, task] = [cost for cost in found if cost is not None]
        return self._read[model, task]

    def of_model(self, model: str) -> list[PastCost]:
        return [cost for name, task in self._names if name == model for cost in self.of(name, task)]

    def of_task(self, task: str) -> list[PastCost]:
        found = [cost for model, name in self._names if name == task for cost in self.of(model, name)[:1]]
        return found[: 10 * LOOKED_AT]

    def _cost(self, folder: str) -> PastCost | None:
        try:
            record = read_model(os.path.join(folder, "run.json"), _PastRecord)
        except (FileError, OSError):
            return None
        cost, n = record.cost, max(1, record.dataset.n)
        if record.status != "ok":
            return None
        tokens = None if cost.tokens_in is None or cost.tokens_out is None else (cost.tokens_in + cost.tokens_out) / n
        return PastCost(
            items=record.dataset.n,
            # Golden rows say nothing of how many the data set has.
            whole=record.limit is None and record.dataset.source != "samples",
            here=(record.hardware.cpu, record.hardware.gpu) == processors(),
            # Answers that a journal had cost nothing.
            seconds=None if cost.n_resumed or cost.seconds is None else cost.seconds / n,
            tokens=tokens,
            tokens_per_s=cost.tokens_per_s,
            memory_bytes=cost.ram_peak_B,
            gpu_bytes=cost.vram_peak_B,
        )

    def forecast(self, cells: Sequence[GridCell]) -> JobForecast:
        """Of cells of one base in one job. Where nothing tells of a cell, its items are as those of the others."""
        if not cells:
            return JobForecast()
        model = os.path.splitext(os.path.basename(cells[0].subject.model))[0]
        own = [cost for cost in self.of_model(model) if cost.here]
        speed = _median(cost.tokens_per_s for cost in own)
        counted: dict[tuple[str, int | None], tuple[float | None, float | None, int | None]] = {}
        for task, limit in dict.fromkeys((cell.task, cell.asking.limit) for cell in cells):
            counted[task, limit] = self._of_cell(model, task, limit, speed)
        parts = [counted[cell.task, cell.asking.limit] for cell in cells]
        items = [n for _, _, n in parts]
        seconds, tokens = (_sum([part[i] for part in parts], items) for i in (0, 1))
        return JobForecast(
            seconds=None if seconds is None else LOADING_S + seconds,
            tokens=None if tokens is None else round(tokens),
            items=None if None in items else sum(n for n in items if n is not None),
            memory_bytes=max((cost.memory_bytes for cost in own if cost.memory_bytes), default=None),
            gpu_bytes=max((cost.gpu_bytes for cost in own if cost.gpu_bytes), default=None),
        )

    def forecast_all(self, cells: Sequence[GridCell]) -> float | None:
        """Seconds of all cells, one after another; None if nothing tells of any of them."""
        by_model: dict[tuple[str, str], list[GridCell]] = {}
        for cell in cells:
            by_model.setdefault((cell.subject.model, cell.subject.held), []).append(cell)
        known = [seconds for part in by_model.values() if (seconds := self.forecast(part).seconds) is not None]
        return sum(known) if known else None

    def _of_cell(
        self, model: str, task: str, limit: int | None, speed: float | None
    ) -> tuple[float | None, float | None, int | None]:
        """(seconds, tokens, items) of a run."""
        own, any_model = self.of(model, task), self.of_task(task)
        size = self._items.get(task)
        sizes = [cost.items for cost in [*own, *any_model] if cost.whole] if size is None else [size]
        items = min([*sizes, *([limit] if limit is not None else [])], default=None)
        if items is None:
            return None, None, None
        tokens = _median(cost.tokens for cost in own) or _median(cost.tokens for cost in any_model)
        seconds = _median(cost.seconds for cost in own if cost.here)
        if seconds is None and tokens is not None and speed:
            seconds = tokens / speed
        return (None if seconds is None else seconds * items), (None if tokens is None else tokens * items), items

    def forecast_training(self, training: GridTraining) -> JobForecast:
        """From the same recipe's trainings with other seeds."""
        beside = os.path.join(self._trained, os.path.dirname(training.place))
        took: list[float] = []
        memory: list[int] = []
        for seed in sorted(os.listdir(beside)) if os.path.isdir(beside) else ():
            for name, _ in training.products:
                try:
                    record = read_training(os.path.join(beside, seed, "adapters", name))
                except (FileError, OSError):
                    continue
                took += [] if record.train_s is None else [record.train_s]
                memory += [] if record.ram_peak_bytes is None else [record.ram_peak_bytes * (record.processes or 1)]
        return JobForecast(
            seconds=LOADING_S + len(training.products) * statistics.fmean(took) if took else None,
            memory_bytes=max(memory, default=None),
        )


def _sum(values: Sequence[float | None], items: Sequence[int | None]) -> float | None:
    """The sum of what cells take, those included whose own part isn't known; None if none is. items: of each cell."""
    known = [(value, n) for value, n in zip(values, items, strict=True) if value is not None]
    if not known:
        return None
    mean = statistics.fmean(value for value, _ in known)
    of_items = sum(n for _, n in known if n)
    rate = sum(value for value, n in known if n) / of_items if of_items else None
    total = sum(value for value, _ in known)
    for value, n in zip(values, items, strict=True):
        if value is None:
            total += mean if n is None or rate is None else rate * n
    return total


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
