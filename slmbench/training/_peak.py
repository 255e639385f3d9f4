"""One training step on tensors that have shapes and no numbers, and the most bytes that were alive at once.

The product's own forward and backward run, so what is counted is what the code keeps: inputs of adapted layers,
attention, the head, checkpointing. What a kernel takes for itself while it runs isn't seen.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from slmbench.training._attention import may_lie_flat, take_rows
from slmbench.training._forward import IGNORED, collate, row_losses
from slmbench.training._fused import fuse_parts
from slmbench.values import JsonObject, Model, Tensor

if TYPE_CHECKING:
    import torch
    from torch._ops import OpOverload
    from torch._subclasses import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode


@frozen
class StepPeak:
    """Bytes beside weights and optimiser. kept: alive when the head begins; peak: the most at once, gradients too."""

    kept_bytes: int
    peak_bytes: int


def step_peak(
    model: Model,
    batch: Sequence[tuple[int, int]],
    *,
    device: str,
    architecture: str,
    accumulate: bool,
    autocast: torch.dtype | None = None,
) -> StepPeak:
    """Runs forward, loss and backward of a batch of rows, each (prompt, answer) tokens, on a model of `fake_model`.

    accumulate: whether gradients of an earlier micro-batch are there already. Raises what the model's class raises
    where its forward looks at numbers.
    """
    import torch

    watch = _watch(model.fake_mode)
    core = model.core
    for parameter in model.module.parameters():
        watch.ignore(parameter)
        if accumulate and parameter.requires_grad:
            with watch:
                parameter.grad = torch.empty_like(parameter)
    flat = _lay_rows(core)
    rows = [_row(prompt, answer, architecture) for prompt, answer in batch]
    kept: list[int] = []
    backbone = core.get_decoder() if architecture == "seq2seq" else core.base_model
    hook = backbone.register_forward_hook(lambda *_: kept.append(watch.live_bytes))
    mixed = torch.autocast(device, dtype=autocast) if autocast is not None else contextlib.nullcontext()
    try:
        with watch, mixed:
            fed = collate(rows, 0, architecture, flat=flat)
            losses = row_losses(model.module, fed, sum(answer for _, answer in batch))
            losses.loss.backward()
            del losses
    finally:
        hook.remove()
        for parameter in model.module.parameters():
            parameter.grad = None
    return StepPeak(kept[-1] if kept else 0, watch.peak_bytes)


def _row(prompt: int, answer: int, architecture: str) -> JsonObject:
    if architecture == "seq2seq":
        return {"input_ids": [1] * prompt, "labels": [1] * answer}
    return {"input_ids": [1] * (prompt + answer), "labels": [IGNORED] * prompt + [1] * answer}


def _lay_rows(core: Model) -> bool:
    """As `prepare_model` does it, which tries numbers: here it is taken for granted that they come out right."""
    fuse_parts(core)
    can = may_lie_flat(core)
    if can:
        take_rows(core)
    return can


@frozen(eq=False)
class FakeModel:
    """A model whose parameters are torch's fake tensors. module: with its adapter, core: transformers' own in it."""

    module: Any
    core: Any
    fake_mode: Any


def fake_model(module: Model, device: str) -> FakeModel:
    """Turns a model on the meta device, in place, into one of fake tensors that claim to be on `device`."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    made: dict[int, Any] = {}
    for part in module.modules():
        for name, value in [*part._parameters.items()]:
            if value is None:
                continue
            if id(value) not in made:
                with mode:
                    fake = torch.empty(value.shape, dtype=value.dtype, device=device)
                made[id(value)] = torch.nn.Parameter(fake, requires_grad=value.requires_grad)
            part._parameters[name] = made[id(value)]
        for name, value in [*part._buffers.items()]:
            if value is not None:
                with mode:
                    part._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device=device)
    core = module.get_base_model() if hasattr(module, "get_base_model") else module
    return FakeModel(module, core, mode)


def _watch(fake_mode: FakeTensorMode) -> TorchDispatchMode:
    """The mode that counts storages. Its base class is torch's, which is imported where it is needed."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves, tree_map_only

    class Watch(TorchDispatchMode):
        live_bytes = 0
        peak_bytes = 0

        def __init__(self) -> None:
            super().__init__()
            self.seen: dict[int, Any] = {}
            self.made: dict[object, list[tuple[Any, ...]]] = {}
            self.views: dict[object, tuple[Any, ...]] = {}

        def ignore(self, tensor: Tensor) -> None:
            self._add(tensor, counted=False)

        def __torch_dispatch__(
            self, func: OpOverload, types: Sequence[type], args: Sequence[object] = (), kwargs: JsonObject | None = None
        ) -> object:
            kwargs = kwargs or {}
            if func is torch.ops.prim.device.default and isinstance(args[0], FakeTensor):
                return args[0].fake_device
            written = _written(func, args, kwargs)
            if isinstance(written, FakeTensor) and written.numel():
                return written
            tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            # Token ids, lengths and masks are real, as code that reads their values has to go its way.
            if tensors and not any(isinstance(tensor, FakeTensor) for tensor in tensors):
                out = tree_map_only(torch.Tensor, self._as_fake_where_float, func(*args, **kwargs))
            elif tensors and all(isinstance(tensor, FakeTensor) for tensor in tensors):
                out = self._made(func, args, kwargs, tensors)
            else:
                with fake_mode:
                    out = func(*args, **kwargs)
                if not tensors and all(not t.dtype.is_floating_point for t in tree_leaves(out)):
                    out = func(*args, **kwargs)
            for leaf in tree_leaves(out):
                if isinstance(leaf, FakeTensor):
                    self._add(leaf)
            return out

        def _made(self, func: OpOverload, args: Sequence[object], kwargs: JsonObject, tensors: list[Tensor]) -> object:
            """What an operation makes; of equal shapes, as layers and pieces of the head have them, without it."""
            key: object = func, _form(args), _form(tuple(kwargs.items()))
            try:
                made = self.made.get(key)
            except TypeError:  # Of what has no hash.
                key = made = None
            if made is not None:
                new = [_fake(fake_mode, *one) for one in made]
                return new[0] if len(func._schema.returns) == 1 else tuple(new)
            if key is not None and (views := self.views.get(key)) is not None:
                seen = [_view(fake_mode, tensors[number], *one) for number, *one in views[1]]
                return views[0](seen) if views[0] is not None else seen[0]
            with fake_mode:
                out = func(*args, **kwargs)
            parts = out if isinstance(out, (tuple, list)) else (out,)
            if key is None or not all(type(part) is FakeTensor for part in parts):
                return out
            given = [id(tensor.untyped_storage()) for tensor in tensors]
            held = [id(part.untyped_storage()) for part in parts]
            apart = len({*given, *held}) == len({*given}) + len(parts)
            if apart and len(parts) == len(func._schema.returns) and not isinstance(out, list):
                self.made[key] = [(part.shape, part.stride(), part.dtype, part.fake_device) for part in parts]
            elif {*held} <= {*given} and not func._schema.is_mutable:
                # What looks into another tensor's storage takes none of its own.
                looks = [(given.index(storage), part) for storage, part in zip(held, parts, strict=True)]
                if not any(tensors[number] is part or tensors[number].dtype != part.dtype for number, part in looks):
                    self.views[key] = (
                        type(out) if parts is out else None,
                        [(n, p.shape, p.stride(), p.storage_offset() - tensors[n].storage_offset()) for n, p in looks],
                    )
            return out

        def _as_fake_where_float(self, tensor: Tensor) -> Tensor:
            if isinstance(tensor, FakeTensor) or not tensor.dtype.is_floating_point:
                return tensor
            with fake_mode:
                return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)

        def _add(self, tensor: Tensor, *, counted: bool = True) -> None:
            storage = tensor.untyped_storage()
            key = id(storage)
            if key in self.seen:
                return
            size = storage.nbytes() if counted else 0

            def freed(_: object) -> None:
                del self.seen[key]
                self.live_bytes -= size

            self.seen[key] = weakref.ref(storage, freed)
            self.live_bytes += size
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    return Watch()


def _written(func: OpOverload, args: Sequence[object], kwargs: JsonObject) -> object:
    """The tensor that an operation writes its one result into, if it leaves its shape alone.

    Such an operation takes nothing, and what it gives is known without going through its shapes, which is half of a
    step's time.
    """
    place = _written_place(func)
    if place is None:
        return None
    number, name = place
    return kwargs.get(name, args[number] if number < len(args) else None)


@functools.cache
def _written_place(func: OpOverload) -> tuple[int, str] | None:
    import torch

    schema = func._schema
    if not schema.is_mutable or len(schema.returns) != 1 or torch.Tag.inplace_view in func.tags:
        return None
    places = [
        (number, given.name)
        for number, given in enumerate(schema.arguments)
        if given.alias_info is not None and given.alias_info.is_write
    ]
    return places[0] if len(places) == 1 else None


def _form(value: object) -> object:
    """All of an operation's argument that the shape of what it makes depends on. Tensors are fake ones."""
    from torch._subclasses.fake_tensor import FakeTensor

    if isinstance(value, FakeTensor):
        return value.shape, value.stride(), value.dtype, value.fake_device
    if isinstance(value, (list, tuple)):
        return tuple(map(_form, value))
    return type(value), value


def _view(mode: FakeTensorMode, of: Tensor, shape: Sequence[int], stride: Sequence[int], after: int) -> Tensor:
    """A fake tensor that looks into the storage of another, so many numbers after where that one begins."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensor, in_kernel_invocation_manager

    with in_kernel_invocation_manager(mode):
        seen = torch.as_strided(of, shape, stride, of.storage_offset() + after)
    return FakeTensor(mode, seen, of.fake_device)


def _fake(
    mode: FakeTensorMode, shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype, device: object
) -> Tensor:
    import torch
    from torch._subclasses.fake_tensor import FakeTensor

    return FakeTensor(mode, torch.empty_strided(shape, stride, dtype=dtype, device="meta"), device)
