"""What a metric is handed of an answer, and which metrics score items of several answers."""

from __future__ import annotations

from collections.abc import Iterable

from slmbench.metrics import Scorer

EXTRACT_S = 5.0


def scores_samples(scorer: Scorer, kind: str, n: int) -> bool:
    """Whether a metric scores items of n samples: it needs no more, and of several texts it has a value for each."""
    return scorer.samples <= n and not (n > 1 and kind == "generate" and scorer.pooled)


def outputs_of(kind: str) -> tuple[str, ...]:
    """The kinds of metrics (`Scorer.kind`) that a task of a kind has outputs for, its own first."""
    return {"generate": ("text", "target"), "code": ("code", "target")}.get(kind, (kind,))


def reads_targets(scorers: Iterable[Scorer]) -> bool:
    """Whether a metric reads how likely a model finds what it was to write."""
    return any(scorer.reads_target for scorer in scorers)


def extracted(pattern: str, text: str) -> str | None:
    """Group 1 of the pattern's last match, without outer white space; None if nothing matches.

    Raises ValueError for a pattern that takes longer than EXTRACT_S.
    """
    import regex

    try:
        # The standard library's re has no time limit, and the pattern is from a file that somebody sent.
        found = list(regex.finditer(pattern, text, timeout=EXTRACT_S))
    except TimeoutError as error:
        raise ValueError(f"cot.extract {pattern!r} takes longer than {EXTRACT_S:g} s on a text; simplify it") from error
    return (found[-1][1] or "").strip() if found else None
