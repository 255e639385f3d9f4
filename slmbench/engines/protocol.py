"""What an engine is: token ids in, log-likelihoods and texts out, each as soon as it is done, with the time it took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from attrs import frozen

from slmbench.values import JsonObject

Item = tuple[str, object]
"""(task, number of the item in it): whose a request is."""


@frozen(eq=False)
class ScoreRequest:
    """A continuation to be scored after its context. An item's requests belong together: a user waits for all."""

    item: Item
    context: Sequence[int]
    continuation: Sequence[int]


@frozen(eq=False)
class WriteRequest:
    """A text to be written. prompt: the token ids of `text`, whole: the engine cuts them from the left to its window.

    kwargs: how, in lm-eval's generation kwargs (`slmbench.engines.requests.wanted_by` reads them). sample: which one of
    its item's it is.
    """

    item: Item
    text: str
    prompt: Sequence[int]
    kwargs: JsonObject
    sample: int = 0


@frozen
class ScoreAnswer:
    """A sum of natural log-probabilities; greedy: whether each token is the likeliest.

    latency_ms: the wall time from the beginning of the batch to its end. share_ms: this answer's part of what its
    batches took: those of all answers add up to the engine's time. plain: why prefixes were not shared, if so.
    """

    loglikelihood: float
    greedy: bool
    latency_ms: float
    share_ms: float
    plain: str = ""


@frozen
class WriteAnswer:
    """A text without the stop string that ended it. finish_reason: `eos`, `stop` or `length`. Times: see `ScoreAnswer`.

    tokens_out: how many were computed, the end's own included.
    """

    text: str
    tokens_out: int
    finish_reason: str
    latency_ms: float
    share_ms: float
    plain: str = ""


class Engine(Protocol):
    """Computes requests. What one raises of a request names its item."""

    @property
    def max_length(self) -> int:
        """The window, in tokens; of an encoder-decoder, the encoder's."""

    @property
    def vocabulary(self) -> int | None:
        """How many tokens the model has embeddings of: ids below it are known; None if that can't be told."""

    @property
    def computed_rows(self) -> int | None:
        """What an automatic batch came to; None if there was none."""

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, ScoreAnswer]]:
        """(index of a request, its answer), in any order, each request once."""

    def write(self, requests: Sequence[WriteRequest]) -> Iterator[tuple[int, WriteAnswer]]:
        """(index of a request, its answer), in any order, each request once."""
