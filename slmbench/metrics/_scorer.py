"""What a metric is: a name, a version, and a function from one example and its output to named values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

from attrs import frozen

from slmbench.values import Example, Output


@frozen
class Scorer:
    """A metric, ready to score one item at a time.

    name: what a declaration calls it. version: changes whenever a score could. kind: "text" reads what a model wrote,
    "choice" the log-likelihoods of the options. values: the keys of every dict that `score` returns. score: pure;
    raises ValueError, naming the example, for an item that can't be scored. binary: each value is 0.0 or 1.0, so that
    intervals for proportions apply. reads_choices: the options' texts are needed, not only their log-likelihoods.
    """

    name: str
    version: str
    kind: Literal["text", "choice"]
    values: tuple[str, ...]
    score: Callable[[Example, Output], dict[str, float]]
    description: str
    binary: bool
    citation: str = ""
    higher_is_better: bool = True
    reads_choices: bool = False

    def chance(self, example: Example) -> float | None:
        """Expected value of a uniform guess: 1 / number of options; None where guessing has no meaning.

        A task's chance level is the mean of this over its examples, whose numbers of options may differ.
        """
        if self.kind != "choice" or not example.choices:
            return None
        return 1.0 / len(example.choices)


def single_value(name: str, measure: Callable[..., float]) -> Callable[..., dict[str, float]]:
    """The measure, its one float in a dict under the metric's name."""
    return partial(_under_name, name, measure)


def text_score(measure: Callable[[str, Sequence[str]], Mapping[str, float]]) -> Callable[..., dict[str, float]]:
    """`Scorer.score` from measure(prediction, references) -> values.

    An example without references is held against its answer.
    """
    return partial(_score_text, measure)


def choice_score(
    measure: Callable[[Sequence[float], Sequence[str], int], Mapping[str, float]],
) -> Callable[..., dict[str, float]]:
    """`Scorer.score` from measure(loglikelihoods, choices, gold) -> values."""
    return partial(_score_choice, measure)


def _under_name(name: str, measure: Callable[..., float], *inputs: object) -> dict[str, float]:
    return {name: measure(*inputs)}


def _score_text(measure: Callable[..., Mapping[str, float]], example: Example, output: Output) -> dict[str, float]:
    try:
        return dict(measure(output.text, example.references or (example.answer,)))
    except ValueError as error:
        raise ValueError(f"example {example.id!r}: {error}") from error


def _score_choice(measure: Callable[..., Mapping[str, float]], example: Example, output: Output) -> dict[str, float]:
    try:
        if example.gold is None:
            raise ValueError("has no gold: a choice metric needs the index of the right option")
        return dict(measure(output.loglikelihoods, example.choices, example.gold))
    except ValueError as error:
        raise ValueError(f"example {example.id!r}: {error}") from error
