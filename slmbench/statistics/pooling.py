"""F1 over labels, from counts that add up over items."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

Counts = Mapping[str, Sequence[int]]
"""label -> [true positives, false positives, false negatives]"""


def count_labels(predicted: Iterable[str], gold: Iterable[str]) -> dict[str, list[int]]:
    """The counts of one item, from its sets of labels; labels in alphabetical order."""
    predicted, gold = set(predicted), set(gold)
    return {
        label: [int(label in predicted and label in gold), int(label not in gold), int(label not in predicted)]
        for label in sorted(predicted | gold)
    }


@frozen
class LabelF1:
    """Pools counts into F1: called with all items' counts it returns its values, each under the name given for it.

    micro: 2TP / (2TP + FP + FN) of the counts summed over items and labels. macro: the mean of the labels' own F1, over
    the labels that occur in some item, as gold or as prediction; a label of neither isn't there. Either is 0.0 if no
    label occurs at all. A name that is None isn't computed.
    """

    micro: str | None = None
    macro: str | None = None

    def __call__(self, parts: Sequence[Counts]) -> dict[str, float]:
        return _Totals.of(parts).values(self)

    def leave_out(self, parts: Sequence[Counts], groups: Sequence[Sequence[int]]) -> list[dict[str, float]]:
        """For every group, a list of positions in parts: the values without it. Looks at the group's labels alone."""
        totals = _Totals.of(parts)
        return [totals.without([parts[position] for position in group]).values(self) for group in groups]


@frozen
class _Totals:
    """Counts summed over items, and what follows from them: all of it can be mended where a few labels change."""

    labels: dict[str, tuple[int, int, int]]
    pooled: tuple[int, int, int]
    f1_sum: float
    n_labels: int

    @classmethod
    def of(cls, parts: Sequence[Counts]) -> _Totals:
        labels = _added(parts)
        pooled = _sum(labels.values())
        return cls(labels, pooled, sum(map(_f1, labels.values())), sum(any(counts) for counts in labels.values()))

    def without(self, parts: Sequence[Counts]) -> _Totals:
        f1_sum, n_labels, gone = self.f1_sum, self.n_labels, _added(parts)
        for label, counts in gone.items():
            before = self.labels[label]
            after = _minus(before, counts)
            f1_sum += _f1(after) - _f1(before)
            n_labels -= any(before) and not any(after)
        return _Totals({}, _minus(self.pooled, _sum(gone.values())), f1_sum, n_labels)

    def values(self, names: LabelF1) -> dict[str, float]:
        values = {}
        if names.micro is not None:
            values[names.micro] = _f1(self.pooled)
        if names.macro is not None:
            # Sums that were mended may end an ulp outside.
            values[names.macro] = min(1.0, max(0.0, self.f1_sum / self.n_labels)) if self.n_labels else 0.0
        return values


def _added(parts: Iterable[Counts]) -> dict[str, tuple[int, int, int]]:
    labels: dict[str, tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
    for part in parts:
        for label, (tp, fp, fn) in part.items():
            before = labels[label]
            labels[label] = (before[0] + tp, before[1] + fp, before[2] + fn)
    return dict(labels)


def _sum(counts: Iterable[tuple[int, int, int]]) -> tuple[int, int, int]:
    tp, fp, fn = (sum(column) for column in zip((0, 0, 0), *counts, strict=True))
    return tp, fp, fn


def _minus(a: tuple[int, int, int], b: tuple[int, int, int]) -> tuple[int, int, int]:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _f1(counts: tuple[int, int, int]) -> float:
    tp, fp, fn = counts
    return 2 * tp / (2 * tp + fp + fn) if tp else 0.0
