"""The numbers of a merge, a tensor at a time: what every input has of one name, and what the method makes of it."""

from __future__ import annotations

import functools
import math
import mmap
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from slmbench.console import phase
from slmbench.errors import DataError, UsageError
from slmbench.files import disk_errors
from slmbench.merging._checkpoints import DTYPES, FLOATS, Mapped, StoredModel, chunks, is_finite, same_numbers
from slmbench.merging._inputs import MergeSources
from slmbench.merging._mergekit import PREFIX
from slmbench.merging._parameters import check_inputs, check_parameters, needs_base, parameters_of
from slmbench.merging._plan import MergePlan, depths, value_at
from slmbench.merging._tensors import merge_one
from slmbench.merging._writer import ModelWriter
from slmbench.merging.lora import LoraUpdate, MergedAdapter, merge_adapters, weight_change
from slmbench.merging.methods._pieces import NotFinite
from slmbench.paths import shown
from slmbench.registry import Registered
from slmbench.values import JsonObject, Tensor

_ASIDE_BYTES = 32_000_000
"""Changes of adapters of one weight that together take more lie in a file that nobody sees, not in memory."""


@frozen(eq=False)
class TensorMerge:
    """A merge of opened inputs. folder: the one that is written, where a file without a name may lie for a while."""

    plan: MergePlan
    method: Registered
    sources: MergeSources
    mapped: Mapped
    folder: str
    _depths: dict[str, float] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self._depths.update(depths(self.names))

    @property
    def names(self) -> list[str]:
        """Of all that is merged: those of a whole model in the order in which they lie in its files."""
        if self.plan.result == "lora":
            changed = ((*one.modules, *one.shifts, *one.whole) for one in self.sources.adapters)
            return list(dict.fromkeys(name for some in changed for name in some))
        places = self.sources.layout.places
        return sorted(places, key=lambda name: (places[name].file, places[name].start))

    def weights(self, name: str) -> list[float]:
        """Of the inputs, for a tensor. Raises UsageError if no filter fits."""
        depth = self._depths.get(name, 0.0)
        settings = zip(self.plan.inputs, self.plan.weight_settings(), strict=True)
        return [float(value_at(setting, name, depth, what=f"weights.{one.name}")) for one, setting in settings]

    def parameters(self, name: str) -> dict[str, Any]:
        """Of the method, for a tensor: those that are given. One that differs by input is a list."""
        depth = self._depths.get(name, 0.0)
        defaults: dict[str, Any] = parameters_of(self.method)
        found: dict[str, Any] = {}
        for key, setting in self.plan.parameters.items():
            at = functools.partial(
                value_at, name=name, depth=depth, what=f"parameters.{key}", default=defaults.get(key)
            )
            if isinstance(setting, Mapping):
                found[key] = [
                    at(setting[one.name]) if one.name in setting else defaults[key] for one in self.plan.inputs
                ]
            else:
                found[key] = at(setting)
        return found

    def problems(self) -> list[str]:
        """What is wrong with weights and parameters, for any tensor."""
        found: dict[str, None] = {}
        for name in self.names:
            try:
                weights, told = self.weights(name), self.parameters(name)
                found |= dict.fromkeys(check_parameters(self.method, told))
                if not found:
                    # Of adapters the changes themselves are merged, whose base is zero.
                    based = self.sources.base is not None or not self.sources.models
                    some = check_inputs(self.method, len(weights), weights, has_base=based, parameters=told)
                    found |= dict.fromkeys(some)
            except UsageError as error:
                found[str(error)] = None
        return list(found)

    def as_lora(self) -> MergedAdapter:
        """The adapters as one. Raises what `merge_adapters` raises."""
        base = self.sources.base
        rank = self.plan.rank
        if rank is None:
            # What is enough for a sum; patterns may give single modules more than an adapter's own rank.
            ranks = [max((its.rank for its in one.modules.values()), default=0) for one in self.sources.adapters]
            rank = sum(ranks) or "full"
        return merge_adapters(
            self.method,
            self.sources.adapters,
            self.weights,
            parameters=self.parameters,
            rank=rank,
            seed=self.plan.seed,
            base=None if base is None else lambda name: self.mapped.tensor(base.places[base.tied.get(name, name)]),
        )

    def write_model(self) -> dict[str, JsonObject]:
        """Writes a whole model's weights; returns name -> what is to be told of the tensor.

        Raises DataError for NaN or an infinity in an input, and for whole numbers that differ.
        """
        layout, report = self.sources.layout, {}
        with ModelWriter(self.folder, dict(self._heads())) as writer:
            joined = self._joined()
            for number, name in enumerate(self.names, 1):
                with phase(f"merging {self.plan.name}: tensor {number} of {len(self.names)}"):
                    if layout.places[name].dtype in FLOATS:
                        try:
                            made, report[name] = self._merged(name, joined)
                        except NotFinite:
                            self._refuse_odd()
                            raise
                        report[name] |= self._rounding(name, made, writer.heads[name][0])
                    else:
                        made = self._equal(name)
                    writer.write(name, made)
                del made
                for one in self._stored:
                    self.mapped.forget(one.places[name])
        return report

    def changed_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor as it would be written) of those that may differ from the base's; nothing is written."""
        import torch

        heads = dict(self._heads())
        changed = {name for one in self.sources.adapters for name in (*one.modules, *one.shifts, *one.whole)}
        joined = self._joined()
        for name in self.names:
            if self.sources.layout.places[name].dtype in FLOATS and (self.sources.models or name in changed):
                yield name, self._merged(name, joined)[0].to(getattr(torch, DTYPES[heads[name][0]]))
                for one in self._stored:
                    self.mapped.forget(one.places[name])

    @property
    def _stored(self) -> list[StoredModel]:
        base = self.sources.base
        return [*self.sources.models, *([base] if base is not None else [])]

    def _heads(self) -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
        asked = {value: key for key, value in DTYPES.items()}.get(self.plan.dtype)
        for name in self.names:
            place = self.sources.layout.places[name]
            yield name, (asked if asked and place.dtype in FLOATS else place.dtype, place.shape)

    def _joined(self) -> LoraUpdate | None:
        """What a method of adapters alone makes of them, as one of them; None for a method of weights."""
        if self.method.facts.get("space") != "adapters":
            return None
        made, first = self.as_lora(), self.sources.adapters[0]
        return LoraUpdate(self.plan.name, first.info, made.modules, made.shifts, made.whole)

    def _merged(self, name: str, joined: LoraUpdate | None) -> tuple[Tensor, JsonObject]:
        """A tensor of the result, float32 or the base's own if nothing changes it."""
        base = self._of(self.sources.base, name) if self.sources.base is not None else None
        if self.sources.models:
            if self.method.plugin or self.method.name.startswith(PREFIX):  # Ours look at what they read.
                self._look_at(self._stored, name)
            return self._one(name, list(self._aside(functools.partial(self._tensors, name), name)), base)
        # Adapters alone: their changes are merged, and the base only gets the result.
        assert base is not None and self.sources.base is not None
        self._look_at([self.sources.base], name)
        if joined is not None:
            return self._changed(joined, name, base), {"unchanged": not self._changes(joined, name)}
        if not any(self._changes(one, name) for one in self.sources.adapters):
            return base, {"unchanged": True}
        made, facts = self._one(name, list(self._aside(functools.partial(self._updates, name, base), name)), None)
        return made.add_(base), facts

    def _one(self, name: str, tensors: Sequence[Tensor], base: Tensor | None) -> tuple[Tensor, JsonObject]:
        """What the method makes of tensors, or of changes, which have no base."""
        told = self.parameters(name)
        if base is None and needs_base(self.method, told):
            base = tensors[0].new_zeros(tensors[0].shape)
        done = merge_one(
            self.method,
            tensors,
            base=base,
            weights=self.weights(name),
            parameters=told,
            seed=self.plan.seed,
            name=name,
        )
        return done.tensor, dict(done.facts)

    def _tensors(self, name: str) -> Iterator[Tensor]:
        for one in self.sources.every:
            if isinstance(one, StoredModel):
                yield self._of(one, name)
            else:
                assert self.sources.base is not None
                yield self._changed(one, name, self._of(self.sources.base, name))

    def _updates(self, name: str, base: Tensor) -> Iterator[Tensor]:
        import torch

        for one in self.sources.adapters:
            factors, whole = one.modules.get(name), one.whole.get(name)
            if factors is not None:
                yield weight_change(factors, base)
            elif whole is not None:
                yield whole.float() - base
            elif name in one.shifts:
                yield one.shifts[name]
            else:
                yield torch.zeros(base.shape)

    def _changed(self, one: LoraUpdate, name: str, base: Tensor) -> Tensor:
        """What an adapter makes of the base's tensor: that tensor itself where it changes nothing."""
        if name in one.whole:
            return one.whole[name]
        if name in one.modules:
            return weight_change(one.modules[name], base).add_(base)
        return base.float() + one.shifts[name] if name in one.shifts else base

    def _changes(self, one: LoraUpdate, name: str) -> bool:
        return name in one.modules or name in one.shifts or name in one.whole

    def _of(self, stored: StoredModel, name: str) -> Tensor:
        return self.mapped.tensor(stored.places[name])

    def _aside(self, made: Callable[[], Iterable[Tensor]], name: str) -> Iterator[Tensor]:
        """Tensors as they are, or, if adapters' would take much memory together, as they lie in a file without a name.

        A file's pages are the system's to write out; only one of the tensors is in memory at a time.
        """
        import torch

        numbers = math.prod(self.sources.layout.places[name].shape)
        changing = sum(self._changes(one, name) for one in self.sources.adapters)
        if changing < 2 or 4 * numbers * changing <= _ASIDE_BYTES:
            yield from made()
            return
        with disk_errors(self.folder), tempfile.TemporaryFile(dir=self.folder) as file:
            kinds = []
            for tensor in made():
                wide = tensor.float().contiguous()
                kinds.append(tensor.shape)
                for part in chunks(wide):
                    file.write(part.numpy().data)
                del tensor, wide
            file.flush()
            # The tensors keep the map, and the map the file.
            whole = torch.frombuffer(mmap.mmap(file.fileno(), 0), dtype=torch.float32)
        yield from (part.reshape(kind) for part, kind in zip(whole.split(numbers), kinds, strict=True))

    def _equal(self, name: str) -> Tensor:
        """A buffer of whole numbers, of which there is nothing to merge."""
        first = self._of(self.sources.layout, name)
        odd = [one.name for one in self._stored if not same_numbers(self._of(one, name), first)]
        if odd:
            raise DataError(
                f"merge {self.plan.name}: {name} is of whole numbers ({self.sources.layout.places[name].dtype}), which "
                f"have no average, and differs between {self.sources.layout.name} and {', '.join(odd)}"
            )
        return first

    def _look_at(self, stored: Sequence[StoredModel], name: str) -> None:
        if not all(is_finite(self._of(one, name)) for one in stored):
            self._refuse_odd()

    def _refuse_odd(self) -> None:
        """Raises DataError with all tensors of all inputs that have NaN or an infinity."""
        odd = [
            f"{one.name}: {key} has NaN or an infinity, in {shown(place.file)}"
            for one in self._stored
            for key, place in sorted(one.places.items())
            if place.dtype in FLOATS and not is_finite(self.mapped.tensor(place))
        ]
        more = [f"and {len(odd) - 20} more tensors like these"] if len(odd) > 20 else []
        if not odd:
            return
        raise DataError("\n".join(f"merge {self.plan.name}: {said}" for said in [*odd[:20], *more]))

    def _rounding(self, name: str, made: Tensor, dtype: str) -> JsonObject:
        """What of the change is lost where a narrow dtype is written: the norm of that over the norm of the change."""
        import torch

        narrow = getattr(torch, DTYPES[dtype])
        if made.dtype == narrow or narrow not in (torch.bfloat16, torch.float16):
            return {}
        lost = changed = 0.0
        for part, before in zip(chunks(made), chunks(self._of(self.sources.layout, name)), strict=True):
            lost += float((part.to(narrow).float() - part).square_().sum(dtype=torch.float64))
            changed += float((part - before.float()).square_().sum(dtype=torch.float64))
        return {"rounding": math.sqrt(lost / changed)} if changed else {}


def totals(report: Mapping[str, JsonObject], numbers: Mapping[str, int]) -> JsonObject:
    """What a report says over all tensors: of texts and flags how often each, of numbers the mean and the largest.

    numbers: name -> how many the tensor has; means are weighted by it.
    """
    found: JsonObject = {"tensors": len(report)}
    keys = dict.fromkeys(key for facts in report.values() for key in facts)
    for key in keys:
        its = {name: facts[key] for name, facts in report.items() if facts.get(key) is not None}
        if all(type(value) in (int, float) for value in its.values()) and its:
            weight = sum(numbers.get(name, 1) for name in its)
            worst = max(its, key=lambda name: its[name])
            mean = sum(value * numbers.get(name, 1) for name, value in its.items()) / max(1, weight)
            found[key] = {"mean": mean, "largest": its[worst], "of": worst}
        elif all(isinstance(value, str | bool) for value in its.values()):
            counts: dict[str, int] = {}
            for value in its.values():
                told = value if isinstance(value, str) else str(value).lower()
                counts[told] = counts.get(told, 0) + 1
            found[key] = counts
    return found
