"""What a candidate of a search is measured by, and how it is put on the base for that and taken off again."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property

from attrs import evolve

from slmbench.catalog import Catalog
from slmbench.errors import UsageError
from slmbench.evaluation import EvaluationOptions, evaluate_tasks, require_engine
from slmbench.formats import Format
from slmbench.merge_recipe import MergeRecipe
from slmbench.merging import MergePlan, merge, merged_tensors
from slmbench.metrics import Scorer
from slmbench.models import (
    LoadedModel,
    ModelSource,
    adapter_on,
    exchanged,
    held_as,
    holds_as_stored,
    is_whole_model,
    load_model,
    resolve_model,
)
from slmbench.runs import canonical_sha256
from slmbench.task import Task
from slmbench.training import HeldOutRows, answer_losses


class Yardstick:
    """Rows that no input has seen, and a value of a model on each; higher is better.

    adapters: folders of what goes in and is not a whole model. items: (task, row) in the order in which they are asked,
    of all tasks in turn. identity: sha256 of the rows and of what is asked of them.
    """

    def __init__(
        self,
        base: ModelSource,
        held: Sequence[HeldOutRows],
        style: Format,
        recipe: MergeRecipe,
        adapters: Sequence[str],
    ) -> None:
        self.base, self.held, self.style, self.recipe, self.adapters = base, list(held), style, recipe, list(adapters)
        self.by = recipe.spec.search.by
        self.items = [(task, row) for row in range(len(held[0].rows)) for task in range(len(held))]
        self.clusters = [held[task].rows[row].example.cluster for task, row in self.items]
        self._base_losses: list[float] = []
        prompts = [[one.task.name, [[row.prompt, row.answer] for row in one.rows]] for one in held]
        metrics = [[one.task.name, self._metric(one.task)] for one in held] if self.by == "score" else []
        self.identity = canonical_sha256([self.by, style.name, prompts, metrics, base.id, base.revision])

    @cached_property
    def loaded(self) -> LoadedModel:
        """The base, in memory from the first candidate on, held as the adapters were trained on it."""
        dtype, quantization = held_as(self.adapters)
        return load_model(self.base, dtype=dtype, quantization=quantization)

    @property
    def range(self) -> tuple[float, float] | None:
        """Lowest and highest value of an item, if all tasks have the same."""
        if self.by == "loss":
            return None
        found = {self._scorer(one.task).range for one in self.held}
        return next(iter(found)) if len(found) == 1 else None

    def measure(self, model: LoadedModel, places: Sequence[int]) -> list[float]:
        """A value for each item: the answer's loss in nats a token, or its task's first metric."""
        if self.by == "loss":
            return answer_losses(
                model, [self.held[task].rows[row] for task, row in (self.items[place] for place in places)]
            )
        found: dict[tuple[int, int], float] = {}
        asked = [self.items[place] for place in places]
        parts = {task: [row for which, row in asked if which == task] for task, _ in asked}
        tasks = {task: self.held[task].only(rows) for task, rows in parts.items()}
        with tempfile.TemporaryDirectory() as out:
            evaluation = self.recipe.evaluation
            # A candidate is in memory alone: an engine that reads files itself scores what comes of the search.
            apart = require_engine(evaluation.engine, [one.task for one in tasks.values()]).apart
            options = EvaluationOptions(
                out=out,
                format=self.style.name,
                batch=evaluation.batch,
                engine="shared" if apart else evaluation.engine,
                seed=self.recipe.spec.seed,
            )
            # What the search isn't decided by isn't computed.
            alone = [one.task.with_metrics((self._scorer(one.task).name,)) for one in tasks.values()]
            runs = evaluate_tasks(model, alone, options)
            for (task, one), run in zip(tasks.items(), runs, strict=True):
                name = self._metric(one.task)
                scores = [sample["scores"][name] for sample in run.samples() if sample["epoch"] == 0]
                found |= {(task, row): float(score) for row, score in zip(parts[task], scores, strict=True)}
        return [found[item] for item in asked]

    def take_base(self, losses: Sequence[float]) -> None:
        """The base's losses of all items, by which those of others are told."""
        self._base_losses = list(losses)

    def relative(self, values: Sequence[float], places: Sequence[int]) -> list[float]:
        """Values of items, higher is better: a loss as a share of the base's mean on its task, below zero."""
        if self.by == "score":
            signs = [1 if self._scorer(one.task).higher_is_better else -1 for one in self.held]
            return [signs[self.items[place][0]] * value for place, value in zip(places, values, strict=True)]
        return [-value / self._base_mean[self.items[place][0]] for place, value in zip(places, values, strict=True)]

    @cached_property
    def _base_mean(self) -> dict[int, float]:
        found: dict[int, list[float]] = {}
        for (task, _), loss in zip(self.items, self._base_losses, strict=True):
            found.setdefault(task, []).append(loss)
        return {task: math.fsum(each) / len(each) for task, each in found.items()}

    def shown(self, mean: float) -> float | None:
        """A mean as a reader takes it: a loss is a share of the base's, and lower is better."""
        if not math.isfinite(mean):
            return None
        return -mean if self.by == "loss" else mean

    def told(self, mean: float) -> str:
        """The same in words."""
        value = self.shown(mean)
        if value is None:
            return "not finite"
        return f"{value:.4f} of the base's loss" if self.by == "loss" else f"score {value:.4f}"

    def _scorer(self, task: Task) -> Scorer:
        scorer = next((one for one in task.scorers if not one.pooled), None)
        if scorer is None:
            raise UsageError(f"task {task.name!r} has no metric of single items to search by; take `search.by: loss`")
        return scorer

    def _metric(self, task: Task) -> str:
        return next(iter(self._scorer(task).values))


@contextlib.contextmanager
def result_on(loaded: LoadedModel, plan: MergePlan, catalog: Catalog) -> Iterator[LoadedModel]:
    """The base with what a plan makes on it, for the length of the block; then the base as it was, bit for bit.

    A LoRA lies in a folder for a while. The tensors of a whole model take the place of the base's in memory, one by
    one; a base whose tensors have other names than their file's is loaded beside.
    """
    if plan.result == "model" and holds_as_stored(loaded):
        with exchanged(loaded, merged_tensors(plan, catalog)):
            yield loaded
        return
    with tempfile.TemporaryDirectory() as out:
        folder = merge(evolve(plan, out=out), catalog).folder
        with folder_on(loaded, folder, catalog) as model:
            yield model


@contextlib.contextmanager
def folder_on(loaded: LoadedModel, folder: str, catalog: Catalog) -> Iterator[LoadedModel]:
    """The base with an adapter on it, or the whole model of a folder."""
    if is_whole_model(folder):
        yield evolve(load_model(resolve_model(folder, catalog), dtype=loaded.dtype), source=loaded.source)
        return
    with adapter_on(loaded, folder) as model:
        yield model
