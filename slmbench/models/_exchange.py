"""A model's own parameters with other numbers in them for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from slmbench.models._files import placed_tensors
from slmbench.models._gguf import is_gguf
from slmbench.models._load import LoadedModel, model_folder
from slmbench.values import Tensor


def holds_as_stored(loaded: LoadedModel) -> bool:
    """Whether all parameters in the model's files have their names, and their shapes, in memory too."""
    if is_gguf(loaded.source.location):
        return False
    stored = placed_tensors(model_folder(loaded.source)) or {}
    own = dict(loaded.model.named_parameters(remove_duplicate=False))
    return bool(stored) and all(name in own and tuple(own[name].shape) == tuple(stored[name].shape) for name in stored)


@contextlib.contextmanager
def exchanged(loaded: LoadedModel, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[None]:
    """Tensors in the place of parameters, by name, in the model's dtype; after the block it is as it was, bit for bit.

    One tensor is asked for after another, and what stood in its place is kept beside it.
    """
    import torch

    own = dict(loaded.model.named_parameters(remove_duplicate=False))
    before: dict[str, Tensor] = {}
    try:
        with torch.no_grad():
            for name, tensor in tensors:
                before[name] = own[name].detach().clone()
                own[name].copy_(tensor)
        yield
    finally:
        with torch.no_grad():
            # The last first: of two names of one tensor the first kept what was there.
            for name, tensor in reversed(before.items()):
                own[name].copy_(tensor)
