"""How likely a model finds what it was to write: asked for beside the texts, for the metrics that read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from slmbench.task import Task, reads_targets
from slmbench.values import JsonObject, Output

if TYPE_CHECKING:
    from slmbench.evaluation._harness import Request
    from slmbench.evaluation._journaled import JournaledEngine

KIND = "loglikelihood"


@frozen
class ScoredTarget:
    """loglikelihood: in nats. bytes: of the target as its format writes it, in UTF-8, without the delimiter."""

    loglikelihood: float
    bytes: int

    def beside(self, output: Output) -> Output:
        """What a metric is handed: the output, and this."""
        return evolve(output, target_loglikelihood=self.loglikelihood, target_bytes=self.bytes)


ScoredTargets = Mapping[int, ScoredTarget]
"""Number of an item -> its target, of a task with metrics that read it."""


def ask_targets(
    task: Task, requests: Sequence[Request], engine: JournaledEngine, places: Sequence[int] | None = None
) -> dict[int, ScoredTarget]:
    """The targets of a task's items, or of those in `places`; {} if no metric reads them.

    A model writes none of it, so it is no part of what an answer costs. Raises DataError for what can't be scored.
    """
    if not reads_targets(task.scorers):
        return {}
    from lm_eval.api.instance import Instance

    asked = list(range(len(requests)) if places is None else places)
    wanted = [
        Instance(KIND, {"index": at}, _pair(requests[at]), 0, metadata=(task.name, place, 1))
        for place, at in enumerate(asked)
    ]
    values = engine.loglikelihood(wanted)
    return {at: ScoredTarget(value, target_bytes(requests[at])) for at, (value, _) in zip(asked, values, strict=True)}


def record_of_target(task: Task, request: Request, engine: JournaledEngine, index: int) -> JsonObject:
    """What a sample's record says of its target; {} if no metric reads it."""
    if not reads_targets(task.scorers):
        return {}
    answered = engine.record_of(task.name, KIND, _pair(request), index)
    return {"target_loglikelihood": answered["loglikelihood"], "target_bytes": target_bytes(request)}


def target_bytes(request: Request) -> int:
    """UTF-8 bytes of what is scored after a request's prompt, without the delimiter."""
    return len(request.target.encode("utf-8", "surrogatepass"))


def _pair(request: Request) -> tuple[str, str]:
    return request.text, request.delimiter + request.target
