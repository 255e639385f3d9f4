"""What is chosen on validation rows: the threshold below which the base answers, and the head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from slmbench.statistics.estimate import estimate
from slmbench.values import Array, Estimate

BY_SCORE, BY_FALSE_ROUTES = "score", "false routes"
KEPT = 0.95
"""Of the known texts that would go right, so many have to, where no score says what they are worth."""


@frozen(eq=False)
class Threshold:
    """value: of an adapter's score. by: `score` or `false routes`. reached: the mean that it was chosen for.

    false_routes: share of the unknown texts that still go to an adapter. to_base: share of the tasks' own that don't.
    """

    value: float
    by: str
    reached: float
    false_routes: float
    to_base: float


def choose_threshold(
    known: Array, right: Sequence[int], unknown: Array, scores: tuple[Array, Array] | None = None
) -> Threshold:
    """The threshold that is best on validation texts.

    Of several that are as good, the one that sends the most unknown texts to the base; of these the lowest.

    known: (texts, adapters), the scores of texts of the tasks; right: the adapter of each. unknown: of texts that
    belong to none. scores: (of the base (texts,), of each adapter (texts, adapters)), what the tasks' metrics give the
    answers to the known texts. With scores, the mean over known texts of the score of whoever answers is made as large
    as it gets; unknown texts have none. Without, the stand-in: the mean of two shares, of known texts that go to their
    own adapter, and of unknown texts that go to the base, while the first stays at 95% or more of what it is without a
    threshold.
    """
    import numpy as np

    best, top = known.argmax(axis=1), known.max(axis=1)
    stray = unknown.max(axis=1) if len(unknown) else np.zeros(0)
    # Between two scores that occur every threshold does the same; halfway is furthest from both.
    ends = np.unique(np.concatenate([[0.0], top, stray]))
    candidates = np.concatenate([[0.0], (ends[:-1] + ends[1:]) / 2, [1.0]])

    def reached(value: float) -> float:
        routed = top >= value
        if scores is not None:
            of_base, of_adapters = scores
            return float(np.where(routed, of_adapters[np.arange(len(best)), best], of_base).mean())
        found = float((routed & (best == np.asarray(right))).mean())
        return (found + float((stray < value).mean())) / 2 if len(stray) else found

    hits = top[best == np.asarray(right)]
    if scores is None:
        candidates = [value for value in candidates if (hits >= value).sum() >= KEPT * len(hits)]
    values = [reached(value) for value in candidates]
    most = max(values)
    tied = [value for value, its in zip(candidates, values, strict=True) if its >= most - 1e-12]
    chosen = float(max(tied, key=lambda value: (int((stray < value).sum()), -value)))
    false_routes = float((stray >= chosen).mean()) if len(stray) else 0.0
    by = BY_FALSE_ROUTES if scores is None else BY_SCORE
    return Threshold(chosen, by, most, false_routes, float((top < chosen).mean()))


@frozen
class HeadChoice:
    """name: of the head that was chosen. why: in a sentence. differences: head -> its accuracy less that of TF-IDF."""

    name: str
    why: str
    differences: Mapping[str, Estimate]


def choose_head(correct: Mapping[str, Sequence[float]], baseline: str = "tfidf") -> HeadChoice:
    """The head that sends the most texts where they belong, if it is surely better than the baseline; else that.

    correct: head -> for each text, known ones and then unknown ones, 1 if it goes to its own adapter or, unknown, to
    the base, each head with its own threshold; else 0. Surely: the interval of the paired difference is above 0.
    """
    ours = correct[baseline]
    differences = {
        name: estimate([a - b for a, b in zip(theirs, ours, strict=True)], range=(-1.0, 1.0))
        for name, theirs in correct.items()
        if name != baseline
    }
    means = {name: sum(values) / len(values) for name, values in correct.items()}
    best = max(means, key=lambda name: (means[name], name == baseline))
    if best == baseline:
        why = f"no other head sends more validation texts where they belong than TF-IDF, {means[baseline]:.1%}"
        return HeadChoice(baseline, why, differences)
    lead = differences[best]
    said = f"{means[best]:.1%} of validation texts go where they belong, {means[baseline]:.1%} by TF-IDF, difference"
    said += f" {lead.value:+.3f} [{lead.ci_low:+.3f}, {lead.ci_high:+.3f}]"
    if lead.method != "none" and lead.ci_low > 0:
        return HeadChoice(best, f"{best} is better than TF-IDF: {said}", differences)
    return HeadChoice(baseline, f"TF-IDF is as good as {best}: {said}", differences)
