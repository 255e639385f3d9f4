"""Log-likelihoods with llama.cpp: a context is computed once for all that follows it, and for what begins alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import field, frozen

from slmbench.engines.llamacpp_parts._library import Sequences
from slmbench.values import Array

BRANCHES = 8
"""Continuations that are computed side by side."""
_TRUNK = 0


@frozen(eq=False)
class Scored:
    """A context with the continuations that follow it; whole texts hold in the window. which: whose these are."""

    context: Sequence[int]
    continuations: tuple[Sequence[int], ...]
    which: tuple[int, ...] = field()

    @property
    def cells(self) -> int:
        """Tokens that are kept at once."""
        longest = sorted((len(one) for one in self.continuations), reverse=True)[:BRANCHES]
        return len(self.context) + sum(longest)


def grouped(pairs: Sequence[tuple[Sequence[int], Sequence[int]]], which: Sequence[int]) -> list[Scored]:
    """(context, continuation) of each, by context, in an order in which neighbours begin alike."""
    found: dict[tuple[int, ...], list[tuple[Sequence[int], int]]] = {}
    for (context, continuation), at in zip(pairs, which, strict=True):
        found.setdefault(tuple(context), []).append((continuation, at))
    return [
        Scored(context, tuple(one for one, _ in found[context]), tuple(at for _, at in found[context]))
        for context in sorted(found)
    ]


class PrefixScorer:
    """Scores groups one after another. What of the last context the next one begins with is not computed again."""

    def __init__(self, sequences: Sequences) -> None:
        self.sequences = sequences
        self._trunk: list[int] = []

    def score(self, group: Scored) -> list[tuple[float, bool]]:
        """(log-likelihood in nats, whether each token is the likeliest) of each continuation."""
        totals = [0.0] * len(group.continuations)
        greedy = [True] * len(group.continuations)

        def add(whose: Sequence[int], tokens: Sequence[int], rows: Array) -> None:
            for branch, (value, best) in zip(whose, log_probabilities(rows, tokens), strict=True):
                totals[branch] += value
                greedy[branch] &= best

        last = self._to_the_end_of(list(group.context))
        firsts = [one[0] for one in group.continuations]
        add(range(len(firsts)), firsts, last[[0] * len(firsts)])
        branches = [at for at, one in enumerate(group.continuations) if len(one) > 1]
        for low in range(0, len(branches), BRANCHES):
            self._branch(group, branches[low : low + BRANCHES], add)
        return list(zip(totals, greedy, strict=True))

    def forget(self) -> None:
        """Nothing is known of any text from here on."""
        self._trunk = []

    def _to_the_end_of(self, context: list[int]) -> Array:
        """The logits behind a context, (1, vocab); the trunk is the context afterwards."""
        known = min(shared_length(self._trunk, context), len(context) - 1)
        self._trunk = context[:known]
        self.sequences.cut(_TRUNK, known)
        new = context[known:]
        wanted = [False] * (len(new) - 1) + [True]
        (row,) = (
            rows.copy() for _, rows in self.sequences.feed(new, range(known, len(context)), [_TRUNK] * len(new), wanted)
        )
        self._trunk = context
        return row

    def _branch(self, group: Scored, branches: Sequence[int], add: object) -> None:
        begin = len(group.context)
        tokens: list[int] = []
        goals: list[int] = []
        places: list[int] = []
        whose: list[int] = []
        owners: list[int] = []
        for sequence, at in enumerate(branches, 1):
            continuation = group.continuations[at]
            self.sequences.copy(_TRUNK, sequence, begin)
            n = len(continuation) - 1
            tokens += continuation[:-1]
            goals += continuation[1:]
            places += range(begin, begin + n)
            whose += [sequence] * n
            owners += [at] * n
        for first, rows in self.sequences.feed(tokens, places, whose, [True] * len(tokens)):
            add(owners[first : first + len(rows)], goals[first : first + len(rows)], rows)  # type: ignore[operator]
        for sequence in range(1, len(branches) + 1):
            self.sequences.cut(sequence, 0)


def log_probabilities(rows: Array, tokens: Sequence[int]) -> Iterator[tuple[float, bool]]:
    """(natural log-probability, whether it is the likeliest) of one token a row. rows: (tokens, vocab), float32."""
    import numpy as np

    for row, token in zip(rows, tokens, strict=True):
        most = float(row.max())
        total = float(np.exp(row - most).sum(dtype=np.float64))
        value = float(row[token])
        yield (value - most) - float(np.log(total)), value == most


def shared_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many first tokens two texts have in common."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
