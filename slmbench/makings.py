"""How a recipe makes what it names, so that another adapter of that name isn't taken for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol

from attrs import frozen

from slmbench.errors import SlmbenchError
from slmbench.schema import TARGETS_OF_LABELS, RecipeSpec, UnderSpec

_SETTINGS = {"rank": "lora.rank", "alpha": "lora.alpha", "lr": "optim.lr"}


class Maker(Protocol):
    """A recipe, with one of its variants or without."""

    @property
    def spec(self) -> RecipeSpec: ...

    def digest_of(self, adapter: str, *, seed: bool = True) -> str: ...

    def with_overrides(self, overrides: Mapping[str, object], /) -> Maker: ...


@frozen
class Making:
    """How something of one name is made; empty if nothing is known of that.

    digests: what trainings may say of their recipe, their seeds counted and not. tasks: that they are on, by recipe and
    variants. merged: (method, names of inputs) of merges of that name.
    """

    digests: frozenset[str] = frozenset()
    tasks: frozenset[tuple[str, ...]] = frozenset()
    merged: frozenset[tuple[str, tuple[str, ...]]] = frozenset()


def making_of(makers: Iterable[Maker], adapter: str, model: str, under: UnderSpec) -> Making:
    """How recipes make an adapter on a model; what `under` names is as it says, as a sweep over that has it."""
    digests: set[str] = set()
    tasks: set[tuple[str, ...]] = set()
    for maker in makers:
        if adapter not in maker.spec.adapters:
            continue
        tasks.add(tuple(maker.spec.adapters[adapter].tasks))
        for overrides in _overrides(maker.spec, model, under):
            # What doesn't fit together, or goes on from files that aren't here, trained nothing either.
            with suppress(SlmbenchError, OSError):
                made = maker.with_overrides(overrides) if overrides else maker
                digests |= {made.digest_of(adapter), made.digest_of(adapter, seed=False)}
    return Making(frozenset(digests), frozenset(tasks))


def _overrides(spec: RecipeSpec, model: str, under: UnderSpec) -> Iterator[dict[str, Any]]:
    """Each way in which a recipe may have been told what a number was made under."""
    said = under.model_dump(exclude_none=True)
    always: dict[str, Any] = {key: said[name] for name, key in _SETTINGS.items() if name in said}
    if spec.model != model:
        always["model"] = model
    # Epochs may come to as many steps, and the recipe's own layers may be called so.
    lengths: list[dict[str, Any]] = [{}, *([{"optim.steps": under.steps}] if under.steps is not None else [])]
    layers: list[dict[str, Any]] = [{}]
    if (targets := TARGETS_OF_LABELS.get((under.targets or "").casefold())) is not None:
        layers.append({"lora.targets": targets})
    for length in lengths:
        for layer in layers:
            yield always | length | layer
