"""How likely a model finds what it was to write: asked for beside the texts, for the metrics that read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from slmbench.engines.encoder_decoder import decoder_tokens
from slmbench.errors import DataError
from slmbench.formats import decoder_ids
from slmbench.models import LoadedModel
from slmbench.task import Task, reads_targets
from slmbench.values import Example, JsonObject, Output

if TYPE_CHECKING:
    from slmbench.evaluation._harness import Request
    from slmbench.evaluation._journaled import JournaledEngine

KIND = "loglikelihood"
TARGET_CUT = "the prompt lost its beginning, as its target took the room"
"""What is said of items in a run's remarks."""


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


def with_scorable_targets(
    loaded: LoadedModel, task: Task, examples: Sequence[Example], requests: Sequence[Request]
) -> tuple[Task, str]:
    """(the task, ''); of a target that can't be scored, the task without what was added to its own metrics, and why.

    Raises DataError for such a target if the task's own metrics read it, or no other metric is left.
    """
    if not reads_targets(task.scorers):
        return task, ""
    faults = ((one.id, _fault(loaded, request)) for one, request in zip(examples, requests, strict=True))
    item, fault = next(((item, fault) for item, fault in faults if fault), ("", ""))
    if not fault:
        return task, ""
    said = f"{task.name}: the target of item {item!r} {fault}"
    kept = tuple(one for one in task.scorers if not one.reads_target or one.name in task.spec.metrics)
    if not kept or reads_targets(kept):
        raise DataError(f"{said}, and a metric reads how likely it is; leave that metric or the item out")
    return evolve(task, scorers=kept), f"{said}, so that --perplexity leaves this task alone"


def _fault(loaded: LoadedModel, request: Request) -> str:
    """Why a target can't be scored, '' if it can."""
    if not request.target.strip():
        return "is empty"
    text, seq2seq = request.delimiter + request.target, loaded.architecture == "seq2seq"
    config = loaded.model.config
    window = decoder_tokens(loaded) if seq2seq else getattr(config, "max_position_embeddings", None)
    # No tokenizer makes more tokens than bytes, but for a mark of its own.
    if not seq2seq and (window is None or target_bytes(request) + len(request.delimiter) + 1 < window):
        return ""
    tokenizer = loaded.tokenizer
    n = len(decoder_ids(tokenizer, text) if seq2seq else tokenizer.encode(text, add_special_tokens=False))
    if not n:
        return "has none of this model's tokens"
    return f"has {n:,} of this model's tokens, and its window is {window:,}" if window and n >= window else ""


def record_of_target(task: Task, request: Request, engine: JournaledEngine, index: int) -> JsonObject:
    """What is known of a sample's target, `target_cut` if its prompt lost its beginning; {} if no metric reads it."""
    if not reads_targets(task.scorers):
        return {}
    answered = engine.record_of(task.name, KIND, _pair(request), index)
    return {
        "target_loglikelihood": answered["loglikelihood"],
        "target_bytes": target_bytes(request),
        "target_cut": answered["truncated"],
    }


def target_bytes(request: Request) -> int:
    """UTF-8 bytes of what is scored after a request's prompt, without the delimiter."""
    return len(request.target.encode("utf-8", "surrogatepass"))


def _pair(request: Request) -> tuple[str, str]:
    return request.text, request.delimiter + request.target
