"""What a metric is: a name, a version, and a function from one example and its output to named values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from attrs import frozen

from slmbench.values import Example, Output


@frozen
class Scorer:
    """A metric, ready to score one item at a time.

    name: what a declaration calls it. version: changes whenever a score could. kind: "text" reads what a model wrote,
    "choice" the log-likelihoods of the options, "code" one verdict a sample, "target" the log-likelihood of what a
    model was to write. values: the keys of every dict that
    `score` returns. score: pure; raises ValueError, naming the example, for an item that can't be scored. binary: each
    value is 0.0 or 1.0, so that intervals for proportions apply. range: the lowest and highest value of an item, which
    no interval leaves; None if there is none. reads_choices: the options' texts are needed, not only their
    log-likelihoods. reads_whole: it finds the marked answer itself; what a task extracts isn't for it.
    reads_target: the model is asked how likely the target is. samples: how many samples an item needs, the k of pass@k.
    describes: it says what a text is like, and judges none.

    parts and pool, both or neither: the metric of a run isn't the mean over its items. parts(example, output) is what
    one item adds, a JSON value; pool(parts of all items) are the run's values; `score` is the pool of one item alone.

    score_all: the same as `score` of each pair, faster. remarks(example, output): what a reader of the number has to
    know, by kind, to be summed over a run; {} for nothing. ready(): raises UsageError or OfflineError if the metric
    can't work here (weights missing); to be called before any model runs. weights_sha256(): of the metric's own model
    and baseline, where it has them: with others its numbers are others.
    """

    name: str
    version: str
    kind: Literal["text", "choice", "code", "target"]
    values: tuple[str, ...]
    score: Callable[[Example, Output], dict[str, float]]
    description: str
    binary: bool
    citation: str = ""
    higher_is_better: bool = True
    range: tuple[float, float] | None = (0.0, 1.0)
    reads_choices: bool = False
    reads_whole: bool = False
    samples: int = 1
    describes: bool = False
    reads_target: bool = False
    parts: Callable[[Example, Output], Any] | None = None
    pool: Callable[[Sequence[Any]], dict[str, float]] | None = None
    score_all: Callable[[Sequence[tuple[Example, Output]]], list[dict[str, float]]] | None = None
    remarks: Callable[[Example, Output], dict[str, int]] | None = None
    ready: Callable[[], None] | None = None
    weights_sha256: Callable[[], str] | None = None

    @property
    def pooled(self) -> bool:
        """Whether a run's values come from `pool` over its items' `parts`, not from a mean of scores."""
        return self.pool is not None

    def scores(self, items: Sequence[tuple[Example, Output]]) -> list[dict[str, float]]:
        """`score` of every item, in batches where the metric knows how."""
        if self.score_all is not None:
            return self.score_all(items)
        return [self.score(example, output) for example, output in items]

    def chance(self, example: Example) -> float | None:
        """Expected value of a uniform guess: 1 / number of options; None if it means nothing, as without a range.

        A task's chance level is the mean of this over its examples, whose numbers of options may differ.
        """
        if self.kind != "choice" or not example.choices or self.range is None:
            return None
        return 1.0 / len(example.choices)


Measured = TypeVar("Measured")


def named(example: Example, measure: Callable[..., Measured], *inputs: object) -> Measured:
    """measure(*inputs); a ValueError of it gets the example's id put before its message."""
    try:
        return measure(*inputs)
    except ValueError as error:
        raise ValueError(f"example {example.id!r}: {error}") from error


def references_of(example: Example) -> tuple[str, ...]:
    """The texts that count as right: the references, or else the answer."""
    return example.references or (example.answer,)


def gold_of(example: Example) -> int:
    """Index of the right option. Raises ValueError, naming the example, where there is none."""
    if example.gold is None:
        raise ValueError(f"example {example.id!r}: has no gold: a choice metric needs the index of the right option")
    return example.gold


def target_of(example: Example, output: Output) -> tuple[float, int]:
    """(nats, bytes) of the target. Raises ValueError, naming the example, if the model wasn't asked for it."""
    if output.target_loglikelihood is None:
        raise ValueError(f"example {example.id!r}: the log-likelihood of its target wasn't asked for")
    return output.target_loglikelihood, output.target_bytes


def required(references: Sequence[str]) -> Sequence[str]:
    """The references. Raises ValueError if there are none, or for a text in place of a list."""
    # A bare string is a sequence of its letters, and "18" would match a prediction of "1".
    if isinstance(references, str):
        raise ValueError(f"references must be a list of texts, got the text {references[:80]!r}; wrap it in a list")
    if not references:
        raise ValueError("no references to compare with; give at least one")
    return references
