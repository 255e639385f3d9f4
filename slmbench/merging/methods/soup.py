"""Soups of fine-tuned models: all of them, or those that a score agrees to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from slmbench.errors import UsageError
from slmbench.merging.methods.linear import linear
from slmbench.registry import merge_method

if TYPE_CHECKING:
    from torch import Tensor


@merge_method(
    "soup", summary="The plain average of all models' weights (uniform soup).", version="1", linear=True, average=True
)
def soup(tensors: Sequence[Tensor], base: Tensor | None, weights: Sequence[float]) -> Tensor:
    """sum_i theta_i / N.

    Raises UsageError for weights that differ, as they would have no effect. A greedy soup is this one of the members
    that `greedy_soup` chooses. Source: Wortsman et al. 2022, Model soups, arXiv:2203.05482, section 2.
    """
    if len(set(weights)) > 1:
        raise UsageError("a soup weighs all models alike, and the weights differ; leave them out, or take linear")
    return linear(tensors, base, [1.0] * len(tensors))


@frozen
class Tasting:
    """One step of a greedy soup: who was added to try, the score with it, and whether it stayed."""

    member: str
    score: float
    kept: bool


@frozen
class GreedySoup:
    """members: in the order in which they were added. steps: every one that was tried."""

    members: tuple[str, ...]
    score: float
    steps: tuple[Tasting, ...]


def greedy_soup(alone: dict[str, float], score: Callable[[tuple[str, ...]], float]) -> GreedySoup:
    """Adds models from the best on, and keeps one if the soup with it scores at least as high as without.

    alone: each model's own score on the validation split, higher is better. score: that of the average of some members,
    called once for each model but the best. Of equal scores the name decides. Raises UsageError for no models and for a
    score that is NaN. Source: Wortsman et al. 2022, arXiv:2203.05482, recipe 1.
    """
    if not alone:
        raise UsageError("a greedy soup needs at least one model")
    if odd := [name for name, value in alone.items() if value != value]:
        raise UsageError(f"a greedy soup orders models by score, and that of {', '.join(odd)} is NaN")
    first, *others = sorted(alone, key=lambda name: (-alone[name], name))
    members: tuple[str, ...] = (first,)
    best = alone[first]
    steps = [Tasting(first, best, True)]
    for name in others:
        value = score((*members, name))
        kept = value >= best  # Of NaN it isn't.
        steps.append(Tasting(name, value, kept))
        if kept:
            members, best = (*members, name), value
    return GreedySoup(members, best, tuple(steps))
