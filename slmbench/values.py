"""The frozen values that travel through slmbench: an example, its prompt, what came out, and what it was worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen


@frozen
class Example:
    """One row of a task, in the task's own terms.

    id: unique within its split. fields: the values that the prompt's templates see. answer: what the model is to write
    (training target, shots, gold), without the delimiter before it. reasoning: the worked solution, where it is apart
    from the answer. choices and gold: the options and the index of the right one, of a `choice` task. references: every
    text that counts as right (at least the answer). cluster: items with the same one are not independent.
    """

    id: str
    fields: Mapping[str, Any]
    answer: str
    reasoning: str | None = None
    choices: tuple[str, ...] = ()
    gold: int | None = None
    references: tuple[str, ...] = ()
    cluster: str | None = None


@frozen
class Shot:
    """A worked example shown before the question: the user's part and the whole target."""

    user: str
    answer: str


@frozen
class Prompt:
    """What a model is asked, before any format. prefix opens the answer (`Answer:`)."""

    user: str
    system: str = ""
    shots: tuple[Shot, ...] = ()
    prefix: str = ""


@frozen
class Output:
    """What came back for one example: text of a generation, or the choices' summed log-likelihoods in nats."""

    text: str = ""
    loglikelihoods: tuple[float, ...] = ()
    tokens_in: int = 0
    tokens_out: int = 0
    latency_ms: float = 0.0
    finish_reason: str = ""


@frozen
class Score:
    """One metric's value for one example."""

    metric: str
    value: float


@frozen
class Estimate:
    """A mean over n items with its standard error and 95% interval; method says how the interval was made."""

    value: float
    stderr: float
    ci_low: float
    ci_high: float
    n: int
    method: str = field(default="wilson")
