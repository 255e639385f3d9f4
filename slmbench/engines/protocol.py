"""What an engine is: token ids in, log-likelihoods and texts out, each as soon as it is done, with the time it took."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

from attrs import Attribute, field, frozen

from slmbench.values import JsonObject

Validator: TypeAlias = Any
"""A function (instance, attribute, value) of attrs."""
REASONS = ("eos", "stop", "length")
MOST_NATS = 1e-3
"""What rounding adds to the log-probability of what is certain."""


def _held(wanted: str, fits: Callable[[object], bool]) -> Validator:
    """Raises ValueError for a value that doesn't fit."""

    def check(_: object, its: Attribute[object], value: object) -> None:
        if not fits(value):
            raise ValueError(f"{its.name} is {value!r}; it has to be {wanted}")

    return check


def _number(value: object, otherwise: float = math.nan) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else otherwise


_MS = _held("a number of milliseconds, 0 or more", lambda value: 0 <= _number(value) < math.inf)
# NaN is what broken weights give: whoever asked says whose item it was.
_NATS = _held(f"a float, {MOST_NATS:g} at most", lambda value: not _number(value, math.inf) > MOST_NATS)
_BOOL = _held("True or False", lambda value: isinstance(value, bool))
_TEXT = _held("a str", lambda value: isinstance(value, str))
_COUNT = _held("an int, 0 or more", lambda value: type(value) is int and value >= 0)
_REASON = _held(f"one of {', '.join(REASONS)}", lambda value: value in REASONS)

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
    Raises ValueError for a value of another kind.
    """

    loglikelihood: float = field(validator=_NATS)
    greedy: bool = field(validator=_BOOL)
    latency_ms: float = field(validator=_MS)
    share_ms: float = field(validator=_MS)
    plain: str = field(default="", validator=_TEXT)


@frozen
class WriteAnswer:
    """A text without the stop string that ended it. finish_reason: `eos`, `stop` or `length`. Times: see `ScoreAnswer`.

    tokens_out: how many were computed, the end's own included.
    """

    text: str = field(validator=_TEXT)
    tokens_out: int = field(validator=_COUNT)
    finish_reason: str = field(validator=_REASON)
    latency_ms: float = field(validator=_MS)
    share_ms: float = field(validator=_MS)
    plain: str = field(default="", validator=_TEXT)


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


def check_engine(engine: Engine) -> Engine:
    """The engine. Raises ValueError for one that lacks what the protocol says, or has it of another kind."""
    for name in ("score", "write"):
        if not callable(getattr(engine, name, None)):
            raise ValueError(f"a {type(engine).__name__} is not an engine: it has no method {name}")
    if type(engine.max_length) is not int or engine.max_length < 1:
        raise ValueError(f"max_length is {engine.max_length!r}; it has to be a number of tokens, 1 or more")
    for name in ("vocabulary", "computed_rows"):
        value = getattr(engine, name)
        if value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"{name} is {value!r}; it has to be a number, 1 or more, or None")
    return engine
