"""Finished runs, read back from their folders and checked against their own samples before anything is ranked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path

from attrs import field, frozen

from slmbench.errors import Problem, SlmbenchError
from slmbench.leaderboard.texts import held_name
from slmbench.runs import ALONE, ItemScores, MetricPart, StoppedPart, comparability_key, metric_key
from slmbench.values import Estimate, JsonObject
from slmbench.visible import visible

TWIN = "twin"


class RunProblems(SlmbenchError):
    """Runs that don't hold what they claim; `problems` has every fault of every run, each with its file.

    left_out: whether the others were ranked without them.
    """

    def __init__(self, problems: list[Problem], *, left_out: bool = False) -> None:
        self.problems = list(problems)
        lines = [visible(str(problem)) for problem in self.problems]
        what = "these runs are left out" if left_out else "nothing was ranked"
        lines.append(f"{what}: run them again (`slmbench eval`), or move their folders away")
        super().__init__("\n".join(lines))


@frozen(eq=False)
class ScoredRun:
    """One finished run whose samples were checked.

    record: run.json as it is. items: the scores of its items, as columns. folder: where run.json and samples.jsonl lie.
    pooled: the estimates of pooled metrics.
    """

    folder: Path
    record: JsonObject
    created: datetime
    metrics: tuple[MetricPart, ...]
    items: ItemScores = field(repr=False)
    pooled: Mapping[str, Estimate] = field(factory=dict, repr=False)

    @property
    def n_samples(self) -> int:
        """Lines of samples.jsonl."""
        return self.items.n_samples

    @cached_property
    def clusters(self) -> Mapping[int, str | None]:
        """An item's hash -> its cluster, None for an item on its own: a view of `items`."""
        items = self.items.items.tolist()
        if self.items.clusters is None:
            return dict.fromkeys(items)
        labels = [None if one == ALONE else str(one) for one in self.items.clusters.tolist()]
        return dict(zip(items, labels, strict=True))

    @cached_property
    def scores(self) -> Mapping[str, Mapping[int, float]]:
        """Metric -> an item's hash -> its score: a view of `items`."""
        made = {}
        for name, column in self.items.scores.items():
            of_item = zip(self.items.items.tolist(), column.tolist(), strict=True)
            made[name] = {item: score for item, score in of_item if not math.isnan(score)}
        return made

    @property
    def run_id(self) -> str:
        return str(self.record["run_id"])

    @property
    def model(self) -> str:
        return str(self.record["model"]["name"])

    @property
    def weights(self) -> str | None:
        """The digest of the model's weights; of one that a server has, as that says; None if nothing says it."""
        model = self.record["model"]
        found: str | None = model.get("weights_sha256") or (model.get("served") or {}).get("digest")
        return found

    @property
    def adapter(self) -> str | None:
        adapter = self.record.get("adapter")
        return adapter["name"] if adapter else None

    @property
    def examined_in_process(self) -> bool:
        """Whether the tests of programs ran in the programs' own process."""
        sandbox = self.record.get("sandbox")
        return isinstance(sandbox, dict) and sandbox.get("examine") == "in_process"

    @property
    def quantization(self) -> str | None:
        """How the model's weights were held, as `nf4`; None if they were whole."""
        held: str | None = self.record["model"].get("quantization")
        return held

    @property
    def method(self) -> str | None:
        """How the adapter was trained, as `qlora`, or how the model was merged; None where its record doesn't say."""
        if self.adapter is None and (merge := self.record["model"].get("merge")):
            return f"merged: {merge['method']} of {', '.join(merge['inputs'])}"
        return (self.record.get("adapter") or {}).get("method")

    @property
    def forced_base(self) -> str | None:
        """Why the adapter's base isn't the one that it was made on; None if it is."""
        return (self.record.get("adapter") or {}).get("forced_base")

    @property
    def name(self) -> str:
        model = held_name(self.model, self.quantization)
        return model if self.adapter is None else f"{model} + {self.adapter}"

    @property
    def task(self) -> str:
        return str(self.record["task"]["id"])

    @property
    def no_texts(self) -> bool:
        """Whether pages show digests in place of what was asked and answered."""
        return bool(self.record.get("no_texts"))

    @cached_property
    def comparability_key(self) -> str:
        """Of what was asked. It says nothing of metrics: a run that has one metric more has the same key."""
        return comparability_key(self.record)

    def metric_key(self, name: str) -> str:
        """What runs of one `comparability_key` must have alike too, to be ranked together in the metric of that name.

        A table that puts runs under one column has to look at both: the key alone lets two versions of a metric meet.
        """
        return metric_key(self.record, next(metric for metric in self.metrics if metric.name == name))

    @property
    def stopped(self) -> StoppedPart | None:
        """How it ended before its set did, because it was decided; None of a run on the whole set."""
        told = self.record.get("stopped")
        return None if told is None else StoppedPart.model_validate(told, extra="ignore")

    @property
    def condition_key(self) -> str:
        """The comparability key under which it is shown: of a stopped run, that of the run on the whole set."""
        return self.comparability_key if self.stopped is None else self.stopped.whole_key

    @property
    def imported(self) -> str | None:
        """The tool whose files the run was made of, as `lm-eval`; None if it is slmbench's own."""
        tool: str | None = (self.record.get("imported") or {}).get("tool")
        return tool

    @property
    def badges(self) -> tuple[str, ...]:
        """Why this run may not be ranked: `limit 20`, `stopped at 42 (decided)`, `samples`, `twin`; empty for a real
        model's full run on real data."""
        limit = self.record.get("limit")
        badges = [] if limit is None else [f"limit {limit}"]
        if self.stopped is not None:  # Where it stops depends on its scores: their mean is of no other run's kind.
            badges.append(self.stopped.badge)
        if self.record["dataset"].get("source") == "samples":
            badges.append("samples")
        if self.record["model"].get("twin"):  # Random weights of a small size: they show that a recipe runs.
            badges.append(TWIN)
        return tuple(badges)
