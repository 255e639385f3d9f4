"""What each task's loss was, step by step: sums that are kept exactly, also over a checkpoint."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict

from slmbench.foreign import Amount, Count, Foreign, Number
from slmbench.values import JsonObject

Point = dict[str, Any]


class _Own(Foreign):
    model_config = ConfigDict(extra="forbid")


class _Trained(_Own):
    loss: Number | None
    tokens: Count
    rows: Count


class _Held(_Own):
    loss: Number | None
    tokens: Count


class _TrainPoint(_Own):
    step: Count
    lr: Number
    loss: Number | None
    grad_norm: Number | None
    seconds: Amount
    tasks: dict[str, _Trained]


class _HeldPoint(_Own):
    step: Count
    loss: Number | None
    tasks: dict[str, _Held]


def _are_sums(parts: list[list[int | Number]]) -> list[list[int | Number]]:
    if len(parts) != 3 or not all(type(n) is int and n >= 0 for counts in parts[1:] for n in counts):
        raise ValueError("the losses, tokens and rows of each task")
    return parts


class CurvesState(_Own):
    """What `Curves.state` made, as it is read back. since: sums of losses, tokens and rows by task since a point."""

    names: list[str]
    points: list[_TrainPoint]
    validation: list[_HeldPoint]
    since: Annotated[list[list[int | Number]], AfterValidator(_are_sums)]

    def fault(self, names: Sequence[str], step: int) -> tuple[str, object, str] | None:
        """(field, what was got, what has to be there) of a state of other tasks, or of another step; None for sound."""
        if self.names != list(names):
            return "names", self.names, f"the tasks {', '.join(names)}"
        for number, part in enumerate(self.since):
            if len(part) != len(names):
                return f"since.{number}", part, f"a list of {len(names)}"
        for kind in ("points", "validation"):
            last = -1
            for number, point in enumerate(getattr(self, kind)):
                if not last <= point.step <= step:
                    return f"{kind}.{number}.step", point.step, f"from {max(last, 0)} to {step}"
                if odd := point.tasks.keys() - set(names):
                    return f"{kind}.{number}.tasks", sorted(odd), "of the training's own tasks"
                last = point.step
        return None


class Curves:
    """The losses of a training, whole and by task. names: the tasks; a task id is an index into them.

    Micro-batches are added, a step is closed, and now and then the steps since the last time are logged as one point:
    {"step", "lr", "loss", "grad_norm", "seconds", "tasks": {name: {"loss", "tokens", "rows"}}}. Losses are means over
    scored tokens, so a task's point weighs its tokens as the gradient did. A task that had no row since then has none.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.points: list[Point] = []
        self.validation: list[Point] = []
        self._open = self._nothing()
        self._closed = self._nothing()

    def add(self, task_ids: Sequence[int], loss_sums: Sequence[float], tokens: Sequence[int]) -> None:
        """One micro-batch: of each row its task's id, the sum of its tokens' losses in nats, and how many they are."""
        sums, counts, rows = self._open
        for task, loss, n in zip(task_ids, loss_sums, tokens, strict=True):
            sums[task] += loss
            counts[task] += n
            rows[task] += 1

    def close_step(self, step: int) -> None:
        """The micro-batches since the last call were those of one step, which has been taken."""
        for kept, new in zip(self._closed, self._open, strict=True):
            for task, value in enumerate(new):
                kept[task] += value
        self._open = self._nothing()

    def log(self, step: int, lr: float, grad_norm: Number | None, seconds: float) -> Point:
        """One point over the steps that were closed since the last one. seconds: since the training began."""
        sums, counts, rows = self._closed
        self._closed = self._nothing()
        tasks = {
            name: {"loss": _mean(sums[i], counts[i]), "tokens": int(counts[i]), "rows": int(rows[i])}
            for i, name in enumerate(self.names)
            if rows[i]
        }
        point: Point = {
            "step": step,
            "lr": lr,
            "loss": _mean(sum(sums), sum(counts)),
            "grad_norm": grad_norm,
            "seconds": round(seconds, 3),
            "tasks": tasks,
        }
        self.points.append(point)
        return point

    def add_validation(self, step: int, by_task: Mapping[str, tuple[float, int]]) -> Point:
        """The loss on the rows kept aside, after a step. by_task: name -> (sum of the tokens' losses, tokens)."""
        loss, tokens = sum(part[0] for part in by_task.values()), sum(part[1] for part in by_task.values())
        tasks = {name: {"loss": _mean(*part), "tokens": int(part[1])} for name, part in by_task.items()}
        point: Point = {"step": step, "loss": _mean(loss, tokens), "tasks": tasks}
        self.validation.append(point)
        return point

    def worst_task(self, task_ids: Sequence[int], loss_sums: Sequence[float]) -> str:
        """The task whose row's loss is not a finite number; if all are, the task of the largest one."""
        pairs = list(zip(task_ids, loss_sums, strict=True))
        broken = [task for task, loss in pairs if not math.isfinite(loss)]
        return self.names[broken[0] if broken else max(pairs, key=lambda pair: pair[1])[0]]

    def state(self) -> JsonObject:
        """All of it as JSON values, for a checkpoint between two steps; `restore` goes on as if nothing had been."""
        if any(self._open[2]):
            raise ValueError("a state is taken between steps; close the step first")
        return copy.deepcopy(
            {"names": self.names, "points": self.points, "validation": self.validation, "since": self._closed}
        )

    def restore(self, state: JsonObject) -> None:
        """Takes up what `state` said. Raises ValueError for a state of other tasks."""
        if list(state["names"]) != self.names:
            raise ValueError(f"the curves are of {state['names']}, not of {self.names}")
        kept = copy.deepcopy(dict(state))
        self.points, self.validation = kept["points"], kept["validation"]
        sums, counts, rows = kept["since"]
        self._closed = [[float(value) for value in sums], list(counts), list(rows)]
        self._open = self._nothing()

    def as_json(self) -> JsonObject:
        """{"train": points, "validation": points}, a loss that is not a number as null."""
        return {"train": _finite(self.points), "validation": _finite(self.validation)}

    def _nothing(self) -> list[list[float]]:
        n = len(self.names)
        return [[0.0] * n, [0] * n, [0] * n]


def line(point: JsonObject, steps: int | None = None) -> str:
    """A point as one line for the console: step, loss, the tasks' losses where there are several, rate and norm."""
    of = "" if steps is None else f"/{steps}"
    trained = "lr" in point
    parts = [f"step {point['step']}{of}", f"{'loss' if trained else 'validation loss'} {_shown(point['loss'])}"]
    if len(point["tasks"]) > 1:
        parts.append(", ".join(f"{name} {_shown(part['loss'])}" for name, part in point["tasks"].items()))
    if trained:
        parts.append(f"lr {point['lr']:.2e}")
        if point["grad_norm"] is not None:
            parts.append(f"norm {point['grad_norm']:.2f}")
        parts.append(f"{point['seconds']:.0f} s")
    return "  ".join(parts)


def _mean(total: float, tokens: float) -> float | None:
    return total / tokens if tokens else None


def _shown(loss: Number | None) -> str:
    return "-" if loss is None else f"{loss:.4f}"


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list) else value
