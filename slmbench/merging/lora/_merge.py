"""Several adapters into one, module by module, in the space of the weight change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import asdict, field, frozen

from slmbench.errors import UsageError
from slmbench.merging._parameters import call_with
from slmbench.merging._tensors import merge_one
from slmbench.merging.lora._core import Rank, Truncation, one_thread, truncate, truncate_whole
from slmbench.merging.lora._factors import Factors, LoraUpdate, stacked, weight_change
from slmbench.merging.lora._together import check_together
from slmbench.merging.lora._write import as_peft
from slmbench.paths import shown
from slmbench.registry import Registered
from slmbench.values import JsonObject

if TYPE_CHECKING:
    from torch import Tensor

Weights = Sequence[float] | Callable[[str], Sequence[float]]
Parameters = Mapping[str, object] | Callable[[str], Mapping[str, object]]
"""The same for all of a model's tensors, or a function of a tensor's name."""


@frozen(eq=False)
class MergedAdapter:
    """An adapter that isn't in a folder yet.

    tensors: as peft names them. config: of its adapter_config.json. report: name of a parameter -> its rank, what was
    left out of the change, and what the method said. modules, shifts, whole: the same by the base's names, as of a
    `LoraUpdate`.
    """

    tensors: Mapping[str, Tensor]
    config: JsonObject
    report: Mapping[str, JsonObject]
    modules: Mapping[str, Factors]
    shifts: Mapping[str, Tensor] = field(factory=dict)
    whole: Mapping[str, Tensor] = field(factory=dict)


def merge_adapters(
    method: Registered,
    updates: Sequence[LoraUpdate],
    weights: Weights,
    *,
    parameters: Parameters | None = None,
    rank: Rank = "full",
    seed: int = 0,
    base: Callable[[str], Tensor] | None = None,
) -> MergedAdapter:
    """One LoRA adapter of several, of at most a rank; "full" loses nothing.

    weights: of the adapters, in their order. parameters: of the method. Either may be a function of a parameter's name.
    base: gives the base's weight of a name, which DoRA and modules_to_save need. What an adapter doesn't change
    counts as a change of zero. Linear methods and those of space "adapters" go by the factors and make no (m, n)
    matrix; the others merge whole changes, one module at a time, and cut the result. Raises UsageError for adapters
    that can't be merged with each other, and for changes that need a base where none is given.
    """
    check_together(updates)
    if isinstance(rank, int) and rank < 1:
        raise UsageError(f"rank {rank}: a LoRA has a rank from 1 on")
    run = _Run(method, updates, weights, parameters or {}, seed, base)
    run.check()
    names = list(dict.fromkeys(name for one in updates for name in one.modules))
    lean: dict[str, Factors] = {}
    modules: dict[str, tuple[Factors, Truncation | None]] = {}
    with one_thread():
        for name in filter(run.by_factors, names):
            lean[name] = run.summed(name)
    for name in names:
        if name not in lean:
            modules[name] = truncate_whole(run.whole_change(name), rank)
    if method.facts.get("space") == "adapters" and rank == "full":
        modules |= {name: (made, None) for name, made in lean.items()}
    else:
        modules |= truncate(lean, rank)
    for name, (one, cut) in modules.items():
        said = asdict(cut) if cut is not None else {"rank": one.rank, "full": one.rank, "error": 0.0}
        run.report[name] = {**said, **run.report.get(name, {})}
    factors = {name: modules[name][0] for name in names}
    shifts = {name: run.tensor(name) for name in _names(updates, "shifts")}
    whole = {name: run.tensor(name) for name in _names(updates, "whole")}
    tensors, config = as_peft(updates, factors, shifts, whole)
    return MergedAdapter(
        tensors, config, {name: run.report.get(name, {}) for name in [*names, *shifts, *whole]}, factors
    )


@frozen(eq=False)
class _Run:
    """One merge, parameter by parameter."""

    method: Registered
    updates: Sequence[LoraUpdate]
    weights: Weights
    parameters: Parameters
    seed: int
    base: Callable[[str], Tensor] | None
    report: dict[str, JsonObject] = field(factory=dict)
    known: dict[object, list[float]] = field(factory=dict)

    def check(self) -> None:
        factored = {name: one.name for one in self.updates for name in one.modules}
        for one in self.updates:
            for name in one.whole:
                if name in factored and name not in one.copied:
                    raise UsageError(
                        f"adapter {one.name!r} ({shown(one.folder)}) has {name} as a whole (modules_to_save), and "
                        f"{factored[name]!r} changes it by factors: no LoRA holds both; ask for a model"
                    )
        if self.base is not None:
            return
        import torch

        copies: dict[str, tuple[Tensor, str]] = {}
        for one in self.updates:
            for name in sorted(one.copied):
                first, whose = copies.setdefault(name, (one.whole[name], one.name))
                if first.shape != one.whole[name].shape or not torch.equal(first, one.whole[name]):
                    raise UsageError(
                        f"adapters {whose!r} and {one.name!r} were saved with {name} that differ; name the base of the "
                        "merge"
                    )
            if names := one.needs_base:
                what = "DoRA" if names[0] in one.modules else "modules_to_save"
                raise UsageError(
                    f"adapter {one.name!r} ({shown(one.folder)}) changes {names[0]} by {what}, and how much that "
                    "is only its base says: name the base of the merge"
                )

    def by_factors(self, name: str) -> bool:
        linear = bool(self.method.facts.get("linear") or self.method.facts.get("space") == "adapters")
        return linear and all(one.modules[name].magnitude is None for one in self.updates if name in one.modules)

    def summed(self, name: str) -> Factors:
        """The merged change of a weight as two factors."""
        its = [one.modules[name] for one in self.updates if name in one.modules]
        given = self._weights(name)
        weights = [weight for one, weight in zip(self.updates, given, strict=True) if name in one.modules]
        if self.method.facts.get("space") != "adapters":
            every = self._coefficients(name)
            used = [part for one, part in zip(self.updates, every, strict=True) if name in one.modules]
            return self._finite(name, stacked(its, used))
        made = call_with(self.method, its, None, weights, self._parameters(name), _no_generator)
        factors, facts = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
        if not isinstance(factors, Factors) or factors.shape != its[0].shape:
            got = type(factors).__name__
            raise self.method.fault(f"expected Factors of a change of {its[0].shape}, got {got}", f"tensor {name!r}")
        self._note(name, facts)
        return self._finite(name, factors)

    def _finite(self, name: str, factors: Factors) -> Factors:
        import torch

        if not bool(torch.isfinite(factors.a).all() and torch.isfinite(factors.b).all()):
            raise UsageError(
                f"{self.method.name}: {name}: the result is beyond what float32 holds; a weight or lambda is too large"
            )
        return factors

    def whole_change(self, name: str) -> Tensor:
        """The merged change of a weight, (m, n), by a method that looks at single numbers, or of DoRA."""
        import torch

        shape = next(one.modules[name].shape for one in self.updates if name in one.modules)
        base = self.base(name) if self.base is not None and self._has_dora(name) else None
        changes = [
            weight_change(one.modules[name], base) if name in one.modules else torch.zeros(shape)
            for one in self.updates
        ]
        return self._merged(name, changes, torch.zeros(shape))

    def tensor(self, name: str) -> Tensor:
        """The merged tensor of a name: what is added to a bias, or what stands in the place of the base's."""
        import torch

        its = {one.name: one.shifts[name] for one in self.updates if name in one.shifts}
        if its:
            zeros = torch.zeros_like(next(iter(its.values())))
            return self._merged(name, [its.get(one.name, zeros) for one in self.updates], zeros)
        if self.base is None:
            self._note(name, {"copied": True})
            return next(one.whole[name] for one in self.updates if name in one.whole)
        base = self.base(name)
        tensors = [one.whole.get(name, base) for one in self.updates]
        dtype = next(one.whole[name].dtype for one in self.updates if name in one.whole)
        changes = [tensor.float() - base.float() for tensor in tensors]
        return (base.float() + self._merged(name, changes, torch.zeros_like(changes[0]))).to(dtype)

    def _merged(self, name: str, changes: Sequence[Tensor], zeros: Tensor) -> Tensor:
        if self.method.facts.get("space") == "adapters":
            parts = zip(self._weights(name), changes, strict=True)
            total = sum((weight * change for weight, change in parts), start=zeros)
            return total / sum(self._weights(name)) if self.method.facts.get("average") else total
        done = merge_one(
            self.method,
            changes,
            base=zeros,
            weights=self._weights(name),
            parameters=self._parameters(name),
            seed=self.seed,
            name=name,
        )
        self._note(name, done.facts)
        return done.tensor

    def _coefficients(self, name: str) -> list[float]:
        """What each adapter's change counts in a linear method: what it makes of changes of one."""
        import torch

        asked = (tuple(self._weights(name)), repr(self._parameters(name)))
        if asked not in self.known:
            one_each, zeros = list(torch.eye(len(self.updates)).unbind()), torch.zeros(len(self.updates))
            self.known[asked] = self._merged(name, one_each, zeros).tolist()
        return self.known[asked]

    def _note(self, name: str, facts: Mapping[str, object]) -> None:
        self.report[name] = {**self.report.get(name, {}), **facts}

    def _weights(self, name: str) -> Sequence[float]:
        return self.weights(name) if callable(self.weights) else self.weights

    def _parameters(self, name: str) -> Mapping[str, object]:
        return self.parameters(name) if callable(self.parameters) else self.parameters

    def _has_dora(self, name: str) -> bool:
        return any(one.modules[name].magnitude is not None for one in self.updates if name in one.modules)


def _no_generator(index: int) -> object:
    raise UsageError("a method of space adapters draws nothing")


def _names(updates: Sequence[LoraUpdate], kind: str) -> list[str]:
    return list(dict.fromkeys(name for one in updates for name in getattr(one, kind)))
