"""Adapters told apart by their own weights: how strongly a text's states lie along what each adapter reacts to most.

No training rows are needed, so that it works for an adapter from elsewhere. After Arrow (Ostapenko et al. 2024,
arXiv:2405.11157), which routes each token in each layer; here a whole text goes to one adapter, and ranks and targets
need not be equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

from attrs import frozen

from slmbench.errors import UsageError
from slmbench.merging.lora import Factors, read_lora
from slmbench.models import AdapterInfo
from slmbench.routing._base_texts import BASE_TEXTS
from slmbench.routing._heads import Arrays, Features, HeadSettings, MisfitArrays, fitting, softmax
from slmbench.values import Array

if TYPE_CHECKING:
    from torch import Tensor

_BETWEEN = ":"


@frozen(eq=False)
class ArrowHead:
    """directions: `0:model.layers.0.mlp.up_proj`, an adapter's number and a layer, -> (inputs,), a unit vector v.

    They are in the order of these names.
    For a layer the mean of |x v| over a text's tokens is measured by its own mean and spread over everyday texts
    (middle, spread: (directions,)): as it is, it says how long x is. An adapter has the mean over its layers, measured
    by its own mean and spread in turn (adapter_middle, adapter_spread: (adapters,)). owners: (classes,), the adapter of
    each class; classes of one adapter share its share.
    """

    name: ClassVar[str] = "arrow"
    summary: ClassVar[str] = "the adapters' own weights, without training rows"
    reads_base: ClassVar[bool] = True

    directions: Arrays
    middle: Array
    spread: Array
    adapter_middle: Array
    adapter_spread: Array
    owners: Array

    @classmethod
    def fit(cls, adapters: Mapping[str, AdapterInfo], owners: Sequence[int], base: Features) -> Self:
        """owners: the number of each class's adapter. Raises UsageError for an adapter that changes no layer here."""
        import numpy as np

        directions: dict[str, Array] = {}
        for number, (name, info) in enumerate(adapters.items()):
            found = directions_of(info)
            there = {module: vector for module, vector in found.items() if base.has(module)}
            if not there:
                raise UsageError(
                    f"adapter {name!r} changes no layer that reads a prompt: its weights say nothing of texts; "
                    "fit another head on its task's rows"
                )
            directions |= {f"{number}{_BETWEEN}{module}": vector for module, vector in there.items()}
        directions = dict(sorted(directions.items()))
        strengths = base.strengths(BASE_TEXTS, directions)
        middle, spread = strengths.mean(axis=0), strengths.std(axis=0)
        spread[spread == 0] = 1
        counts = len(adapters)
        plain = cls(directions, middle, spread, np.zeros(counts), np.ones(counts), np.asarray(owners, dtype=np.int64))
        levels = plain._levels(strengths)
        return cls(directions, middle, spread, levels.mean(axis=0), levels.std(axis=0).clip(1e-12), plain.owners)

    def shares(self, texts: Sequence[str], base: Features | None) -> Array:
        import numpy as np

        if base is None:
            raise UsageError("this head reads hidden states: give the base")
        found = softmax(self._levels(base.strengths(texts, self.directions)))
        return found[:, self.owners] / np.bincount(self.owners)[self.owners]

    def _levels(self, strengths: Array) -> Array:
        """(texts, directions) -> (texts, adapters)."""
        import numpy as np

        scaled = (strengths - self.middle) / self.spread
        of = np.array([int(key.partition(_BETWEEN)[0]) for key in self.directions])
        levels = np.stack([scaled[:, of == number].mean(axis=1) for number in range(len(self.adapter_middle))], axis=1)
        return (levels - self.adapter_middle) / self.adapter_spread

    @property
    def arrays(self) -> Arrays:
        own = ("middle", "spread", "adapter_middle", "adapter_spread", "owners")
        return {**self.directions, **{name: getattr(self, name) for name in own}}

    @property
    def settings(self) -> HeadSettings:
        return {"adapters": len(self.adapter_middle)}

    @classmethod
    def load(cls, arrays: Arrays, settings: HeadSettings, classes: int) -> Self:
        directions = {key: array for key, array in sorted(arrays.items()) if _BETWEEN in key}
        counts = settings.get("adapters", 0)
        numbers = {key.partition(_BETWEEN)[0] for key in directions}
        if numbers != set(map(str, range(counts))) or not counts:
            raise MisfitArrays(f"has directions of the adapters {sorted(numbers)}, has to have them of all {counts}")
        pairs = len(directions)
        shapes: dict[str, tuple[int | None, ...]] = dict.fromkeys(directions, (None,))
        shapes |= {"middle": (pairs,), "spread": (pairs,), "adapter_middle": (counts,), "adapter_spread": (counts,)}
        *_, middle, spread, adapter_middle, adapter_spread, owners = fitting(arrays, {**shapes, "owners": (classes,)})
        if owners.dtype.kind != "i" or set(owners.tolist()) != set(range(counts)):
            raise MisfitArrays("array 'owners' doesn't name each adapter")
        return cls(directions, middle, spread, adapter_middle, adapter_spread, owners)


def directions_of(info: AdapterInfo) -> dict[str, Array]:
    """Layer -> the unit vector of its input that the adapter's change of it stretches most: (inputs,), float32.

    The top right singular vector of B A, by way of the factors: no matrix of the weight's own size is made. Its sign
    is arbitrary. Raises UsageError and FileError as `read_lora` does.
    """
    found = {}
    for name, factors in read_lora(info.folder).modules.items():
        if factors.kind != "embedding":  # Tokens are no vectors that could lie along one.
            found[name.removesuffix(".weight")] = _top_right(factors).float().numpy()
    return found


def _top_right(factors: Factors) -> Tensor:
    import torch

    a, b = factors.a.double(), factors.b.double()
    if factors.kind == "conv1d":  # Its weight lies the other way round: (inputs, outputs).
        a, b = b.mT, a.mT
    span, rest = torch.linalg.qr(a.mT)  # (inputs, r), (r, r)
    _, _, right = torch.linalg.svd(torch.linalg.qr(b).R @ rest.mT)
    return span @ right[0]
