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
    continuation: what is scored after each choice's own prompt, of a `choice` task whose prompts differ by choice.
    """

    id: str
    fields: Mapping[str, Any]
    answer: str
    reasoning: str | None = None
    choices: tuple[str, ...] = ()
    gold: int | None = None
    references: tuple[str, ...] = ()
    cluster: str | None = None
    continuation: str | None = None


@frozen
class Target:
    """What a model is to write. reasoning: None where none is asked for, '' where it is and the row has none."""

    answer: str
    reasoning: str | None = None

    @property
    def text(self) -> str:
        """Reasoning and answer on lines of their own, or the answer alone."""
        return f"{self.reasoning}\n{self.answer}" if self.reasoning else self.answer


@frozen
class Shot:
    """A worked example shown before the question: the user's part, its fields, and the target.

    prefix: what opens its answer, None for the prompt's own.
    """

    user: str
    target: Target
    inputs: Mapping[str, Any] = field(factory=dict)
    prefix: str | None = None


@frozen
class Prompt:
    """What a model is asked, before any format. prefix opens the answer (`Answer:`); delimiter stands between them.

    inputs: the user's part as fields, for formats that write fields down. reasoned: the target begins with reasoning.
    shot_delimiter: between shots, and between the last one and the question, in formats without turns.
    """

    user: str
    system: str = ""
    shots: tuple[Shot, ...] = ()
    prefix: str = ""
    delimiter: str = " "
    inputs: Mapping[str, Any] = field(factory=dict)
    reasoned: bool = False
    shot_delimiter: str = "\n\n"


@frozen
class Output:
    """What came back for one example: text of a generation, or the choices' summed log-likelihoods in nats.

    verdicts: of a `code` task, what became of each sample: passed, failed, timed out or died.
    """

    text: str = ""
    loglikelihoods: tuple[float, ...] = ()
    tokens_in: int = 0
    tokens_out: int = 0
    latency_ms: float = 0.0
    finish_reason: str = ""
    verdicts: tuple[str, ...] = ()


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
