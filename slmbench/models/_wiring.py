"""What a model is put together of, noted before an adapter goes in and put back when it has come off."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

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
            module.__class__ = kind
            _put(vars(module), state)
        for tensor, data, copied, requires_grad in tensors:
            if tensor.data.data_ptr() != data.data_ptr() or tensor.data.shape != data.shape:
                tensor.data = data
            if copied is not None:
                tensor.data.copy_(copied)
            if tensor.requires_grad != requires_grad:
                tensor.requires_grad_(requires_grad)
        for config, state in configs.values():
            _put(vars(config), state)

    return restore


def _noted(state: dict[str, object]) -> dict[str, tuple[object, object]]:
    """name -> (value, what it holds); the value stays the same object, as handles of hooks point at it."""
    return {key: (one, copy.copy(one) if type(one) in _HOLDERS else None) for key, one in state.items()}


def _put(there: dict[str, object], state: Mapping[str, tuple[object, object]]) -> None:
    there.clear()
    for key, (value, holding) in state.items():
        there[key] = value
        if isinstance(value, list) and isinstance(holding, list):
            value[:] = holding
        elif isinstance(value, dict | set) and isinstance(holding, dict | set):
            value.clear()
            value.update(holding)
