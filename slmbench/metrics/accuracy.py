"""Accuracy of multiple choice: is the likeliest option the right one?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from slmbench.registry import metric

_HARNESS = "Gao et al. 2023, A framework for few-shot language model evaluation, doi:10.5281/zenodo.10256836"


def likeliest(loglikelihoods: Sequence[float]) -> int:
    """Index of the highest value, the first of equals. Raises ValueError if empty or for a NaN; -inf is fine."""
    if not loglikelihoods:
        raise ValueError("no log-likelihoods: a choice metric needs one for each option")
    for index, value in enumerate(loglikelihoods):
        if math.isnan(value):
            raise ValueError(f"the log-likelihood of option {index} is NaN; the model's logits overflowed")
    return max(range(len(loglikelihoods)), key=loglikelihoods.__getitem__)


def likeliest_norm(loglikelihoods: Sequence[float], choices: Sequence[str]) -> int:
    """Index of the highest log-likelihood per character of the option, the first of equals.

    choices: the options' texts without the delimiter that the prompt puts before them. Raises ValueError for an empty
    option, a NaN, or lengths that differ.
    """
    return _likeliest_per(loglikelihoods, choices, [len(choice) for choice in choices], "accuracy_norm")


def likeliest_bytes(loglikelihoods: Sequence[float], choices: Sequence[str]) -> int:
    """Index of the highest log-likelihood per UTF-8 byte of the option; as `likeliest_norm` in all else."""
    return _likeliest_per(loglikelihoods, choices, [len(choice.encode()) for choice in choices], "accuracy_bytes")


def likeliest_of(loglikelihoods: Sequence[float], choices: Sequence[str], gold: int) -> int:
    """`likeliest`, where each option has its text and gold is one of them; else ValueError."""
    _check_counts(loglikelihoods, choices)
    _check_gold(gold, len(loglikelihoods))
    return likeliest(loglikelihoods)


@metric(
    "accuracy",
    summary="The option with the highest log-likelihood is the right one (lm-eval's acc).",
    version="1",
    binary=True,
    citation=_HARNESS,
)
def accuracy(loglikelihoods: Sequence[float], choices: Sequence[str], gold: int) -> float:
    """1.0 where the option of highest summed log-likelihood is `gold`, else 0.0.

    loglikelihoods: nats, one an option. choices: may be empty, their texts are not read. gold: 0-based. Raises
    ValueError for a NaN, a gold out of range, or lengths that differ. Source: lm-eval's acc.
    """
    if choices:
        _check_counts(loglikelihoods, choices)
    _check_gold(gold, len(loglikelihoods))
    return float(likeliest(loglikelihoods) == gold)


@metric(
    "accuracy_norm",
    summary="The same, with log-likelihoods per character of the option (lm-eval's acc_norm).",
    version="1",
    binary=True,
    reads_choices=True,
    citation=_HARNESS,
)
def accuracy_norm(loglikelihoods: Sequence[float], choices: Sequence[str], gold: int) -> float:
    """1.0 where the option of highest log-likelihood per character is `gold`, else 0.0.

    As `accuracy`, but reads the options' texts. Raises ValueError for an empty option too. Source: lm-eval's acc_norm.
    """
    _check_gold(gold, len(loglikelihoods))
    return float(likeliest_norm(loglikelihoods, choices) == gold)


@metric(
    "accuracy_bytes",
    summary="The same, with log-likelihoods per UTF-8 byte of the option (lm-eval's acc_bytes).",
    version="1",
    binary=True,
    reads_choices=True,
    citation=_HARNESS,
)
def accuracy_bytes(loglikelihoods: Sequence[float], choices: Sequence[str], gold: int) -> float:
    """1.0 where the option of highest log-likelihood per UTF-8 byte is `gold`, else 0.0.

    As `accuracy_norm`, which counts characters. Source: lm-eval's acc_bytes.
    """
    _check_gold(gold, len(loglikelihoods))
    return float(likeliest_bytes(loglikelihoods, choices) == gold)


def _likeliest_per(loglikelihoods: Sequence[float], choices: Sequence[str], sizes: Sequence[int], metric: str) -> int:
    _check_counts(loglikelihoods, choices)
    for index, size in enumerate(sizes):
        if not size:
            raise ValueError(
                f"option {index} of {len(choices)} is empty: {metric} divides by its length; "
                "fix the row's choices or use accuracy"
            )
    return likeliest([value / size for value, size in zip(loglikelihoods, sizes, strict=True)])


def _check_counts(loglikelihoods: Sequence[float], choices: Sequence[str]) -> None:
    if len(loglikelihoods) != len(choices):
        raise ValueError(f"got {len(loglikelihoods)} log-likelihoods for {len(choices)} options; give one each")


def _check_gold(gold: int, n: int) -> None:
    # A negative index would silently count from the end.
    if not 0 <= gold < n:
        raise ValueError(f"gold is {gold}, but there are {n} options, counted from 0")
