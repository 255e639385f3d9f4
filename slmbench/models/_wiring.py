"""What a model is put together of, noted before an adapter goes in and put back when it has come off."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence

from slmbench.values import Model

_HOLDERS = (dict, OrderedDict, set, list)


def note_wiring(model: Model, *, numbers: bool = False, of: Sequence[Model] | None = None) -> Callable[[], None]:
    """A function that makes the model what it is now: the same modules, tensors, configs and methods in each place.

    Whatever an adapter's kind does to a base, this undoes it: layers in layers, exchanged methods, hooks, frozen or
    resized tensors, changed configs. numbers: those that are overwritten in place too, for which a copy is held. of:
    the modules that it is noted of; all that are in the model now if not given.
    """
    modules = [(module, type(module), _noted(vars(module))) for module in (model.modules() if of is None else of)]
    tensors = []
    for module, _, _ in modules:
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None:
                copied = tensor.detach().clone() if numbers else None
                tensors.append((tensor, tensor.data, copied, tensor.requires_grad))
    held = [vars(module).get(name) for module, _, _ in modules for name in ("config", "generation_config")]
    configs = {id(one): (one, _noted(vars(one))) for one in held if hasattr(one, "to_dict")}

    def restore() -> None:
        for module, kind, state in modules:
            if type(module) is not kind:
                module.__class__ = kind
            _put(vars(module), state)
        for tensor, data, copied, requires_grad in tensors:
            if tensor.data_ptr() != data.data_ptr() or tensor.shape != data.shape:
                tensor.data = data
            if copied is not None:
                tensor.data.copy_(copied)
            if tensor.requires_grad != requires_grad:
                tensor.requires_grad_(requires_grad)
        for config, state in configs.values():
            _put(vars(config), state)

    return restore


_State = tuple[dict[str, object], list[tuple[object, object]]]
"""(name -> value, (a value that holds others, a copy of it)); a value stays the same object, as hooks' handles do."""


def _noted(state: dict[str, object]) -> _State:
    return dict(state), [(one, copy.copy(one)) for one in state.values() if type(one) in _HOLDERS]


def _put(there: dict[str, object], state: _State) -> None:
    values, holders = state
    there.clear()
    there.update(values)
    for holder, holding in holders:
        if not holder and not holding:  # As most are: a module has a dozen of them for hooks alone.
            continue
        if isinstance(holder, list) and isinstance(holding, list):
            holder[:] = holding
        elif isinstance(holder, dict | set) and isinstance(holding, dict | set):
            holder.clear()
            holder.update(holding)
