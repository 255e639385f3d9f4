"""What a finished training leaves for one that goes on from it: its optimiser's state, and where it was."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from slmbench.errors import FileError, UsageError
from slmbench.files import file_sha256
from slmbench.paths import shown
from slmbench.runs import TrainingRecord
from slmbench.schema import OptimSpec
from slmbench.training._checkpoints import load_state, random_states, set_random_states, to_bytes
from slmbench.values import JsonObject, Model

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from transformers import Trainer

OPTIMIZER = "optimizer.pt"
_SCHEMA = 1
# The states of these are the same.
_ALIKE = {"adamw_torch_fused": "adamw_torch", "paged_adamw_8bit": "adamw_8bit"}


@frozen(eq=False)
class KeptOptimizer:
    """An optimiser's state as it was kept. kind: of optimiser. order: digest of the order of rows that was gone along;
    steps: how many of it. sha256: of the file, which `state` reads.
    """

    path: str
    kind: str
    order: str
    steps: int
    sha256: str

    def state(self) -> JsonObject:
        """{"states": name of a tensor -> its state, "random": of each process}. Raises FileError."""
        return load_state(self.path)


def read_kept(folder: str, record: TrainingRecord, optim: OptimSpec) -> KeptOptimizer:
    """What was kept beside an adapter. Raises UsageError if nothing was, or not what `optim` goes on with."""
    path = os.path.join(folder, OPTIMIZER)
    if not os.path.isfile(path):
        raise UsageError(
            f"init_adapter: {shown(folder)} has no {OPTIMIZER}, so its optimiser's state can't be gone on with; train "
            "it with `keep_optimizer: true`, or go on with `optimizer: false`"
        )
    digest = file_sha256(path)
    if record.optimizer_sha256 is not None and digest != record.optimizer_sha256:
        raise UsageError(f"init_adapter: {shown(path)} is not as its training left it; train that again")
    try:
        said = load_state(path)
        kept = KeptOptimizer(path, str(said["kind"]), str(said["order"]), int(said["steps"]), digest)
        if said["schema"] != _SCHEMA or not isinstance(said["states"], dict) or not isinstance(said["random"], list):
            raise ValueError("of another version")
    except (FileError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"init_adapter: {shown(path)} holds no optimiser's state; train that again") from error
    if _alike(kept.kind) != _alike(optim.optimizer):
        raise UsageError(
            f"init_adapter: {shown(path)} is of {kept.kind}, and the recipe's optim.optimizer is {optim.optimizer}; "
            f"`--set optim.optimizer={kept.kind}`, or go on with `optimizer: false`"
        )
    return kept


def _alike(kind: str) -> str:
    return _ALIKE.get(kind, kind)


def kept_bytes(trainer: Trainer, kind: str, order: str, steps: int, random: Sequence[bytes]) -> bytes:
    """What is kept of a training that has ended. random: of each process, as `random_bytes`."""
    import torch

    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    states = {names[id(parameter)]: state for parameter, state in trainer.optimizer.state.items()}
    draws = [torch.load(io.BytesIO(one), map_location="cpu", weights_only=True) for one in random]
    said = {"schema": _SCHEMA, "kind": kind, "order": order, "steps": steps, "states": states, "random": draws}
    return to_bytes(said)


def random_bytes() -> bytes:
    """What this process would draw next."""
    return to_bytes(random_states())


def restore_kept(kept: KeptOptimizer, model: Model, optimizer: Optimizer) -> None:
    """Gives an optimiser the state that was kept; rates, decay and the like stay its own. Raises UsageError."""
    states: Mapping[str, Any] = kept.state()["states"]
    said = optimizer.state_dict()
    pairs = zip(optimizer.param_groups, said["param_groups"], strict=True)
    numbers = {
        id(parameter): number
        for group, told in pairs
        for parameter, number in zip(group["params"], told["params"], strict=True)
    }
    named = {name: numbers[id(one)] for name, one in model.named_parameters() if id(one) in numbers}
    if states and states.keys() != named.keys():
        raise UsageError(f"init_adapter: {shown(kept.path)} is of other tensors than the adapter has; train that again")
    state = {named[name]: value for name, value in states.items()}
    optimizer.load_state_dict({"state": state, "param_groups": said["param_groups"]})


def restore_kept_random(kept: KeptOptimizer, rank: int) -> None:
    """Has this process draw on as one of the first training's would have, if that had as many."""
    random = kept.state()["random"]
    if rank < len(random):
        set_random_states(random[rank])
