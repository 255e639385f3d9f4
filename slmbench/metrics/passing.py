"""pass@k: the chance that one of k samples of a program passes its tests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, partial

from slmbench.metrics._scorer import Scorer, named
from slmbench.registry import metric
from slmbench.values import Example, Output

VERDICTS = ("passed", "failed", "timed out", "died")
"""What can have become of a sample."""


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate of the chance that at least one of k samples is right, from n samples of which c were.

    1 - C(n - c, k) / C(n, k), as a product that neither overflows nor cancels. Raises ValueError unless 1 <= k <= n
    and 0 <= c <= n: with fewer than k samples nothing is known of k. Source: Chen et al. 2021, arXiv:2107.03374,
    section 2.1.
    """
    if k < 1:
        raise ValueError(f"k is {k}; pass@k needs a k of at least 1")
    if n < k:
        raise ValueError(f"pass@{k} needs at least {k} samples, got {n}; draw more samples or ask for a smaller k")
    if not 0 <= c <= n:
        raise ValueError(f"{c} of {n} samples can't have passed")
    if n - c < k:
        return 1.0
    all_fail = 1.0
    for i in range(n - c + 1, n + 1):
        all_fail *= 1.0 - k / i
    return 1.0 - all_fail


def pass_at_k_of(verdicts: Sequence[str], k: int) -> float:
    """`pass_at_k` of one problem's verdicts. Raises ValueError for fewer than k, and for a verdict of another name."""
    if isinstance(verdicts, str):
        raise ValueError(f"verdicts must be a list, one a sample, got the text {verdicts!r}")
    for verdict in verdicts:
        if verdict not in VERDICTS:
            raise ValueError(f"unknown verdict {verdict!r}; a verdict is one of {', '.join(VERDICTS)}")
    return pass_at_k(len(verdicts), sum(verdict == "passed" for verdict in verdicts), k)


_PASS_AT_K = re.compile(r"pass@([1-9][0-9]{0,3})")


def scorer_named(name: str) -> Scorer | None:
    """The scorer of a name like `pass@100`, k from 1 to 9999; None for any other name."""
    found = _PASS_AT_K.fullmatch(name)
    return scorer(int(found[1])) if found else None


@metric(
    "pass@1",
    summary="Chance that one sample passes its tests, unbiased; pass@k of any k works by the same name.",
    version="1",
    factory=True,
)
def pass_at_1() -> Scorer:
    """The scorer of pass@1."""
    return scorer(1)


@metric(
    "pass@10", summary="Chance that at least one of 10 samples passes its tests, unbiased.", version="1", factory=True
)
def pass_at_10() -> Scorer:
    """The scorer of pass@10."""
    return scorer(10)


@cache
def scorer(k: int) -> Scorer:
    """The scorer of pass@k."""
    name = f"pass@{k}"
    return Scorer(
        name=name,
        version="1",
        kind="code",
        values=(name,),
        score=partial(_score, k),
        description=f"Chance that at least one of {k} samples passes its tests, unbiased.",
        citation="Chen et al. 2021, Evaluating Large Language Models Trained on Code, arXiv:2107.03374",
        # Of several samples, c of n.
        binary=False,
        samples=k,
    )


def _score(k: int, example: Example, output: Output) -> dict[str, float]:
    return {f"pass@{k}": named(example, pass_at_k_of, output.verdicts, k)}
