"""What a checkpoint says of the training's progress, beside weights and the states of optimiser and generators."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from typing import Any

from pydantic import ConfigDict, Field

from slmbench.foreign import Amount, Count, Foreign, Limits, faults, parse, read_model, read_object
from slmbench.training._curves import CurvesState

CURVES, TIMES, STATE = "curves.json", "times.json", "trainer_state.json"
_LIMITS = Limits(bytes=200_000_000)  # Curves of a million steps.


class Memory(Foreign):
    """As `PeakMemory` has it."""

    model_config = ConfigDict(extra="forbid")

    first_step_bytes: Count
    peak_bytes: Count
    peak_ram_bytes: Count


class Times(Foreign):
    """seconds: since the training began, all its attempts together. resumed_from: the steps that they began at.

    others: the memory of processes beside the first, by rank.
    """

    model_config = ConfigDict(extra="forbid")

    seconds: Amount
    resumed_from: list[Count]
    memory: Memory
    others: list[Memory] = Field(default=[])


class TrainerState(Foreign):
    """transformers' own state, as far as a training goes on from it; a later version may have more of it."""

    global_step: Count
    max_steps: Count
    epoch: Amount | None
    num_train_epochs: Count
    total_flos: Amount
    num_input_tokens_seen: Count
    train_batch_size: Count | None
    logging_steps: Amount
    eval_steps: Amount
    save_steps: Amount
    log_history: list[dict[str, Any]]
    is_local_process_zero: bool
    is_world_process_zero: bool
    is_hyper_param_search: bool
    stateful_callbacks: dict[str, dict[str, Any] | list[dict[str, Any]]]


def read_progress(folder: str, names: Sequence[str], step: int) -> tuple[CurvesState, Times]:
    """A checkpoint's curves and times. names: the tasks, in order. step: of the checkpoint.

    Raises FileError if a file doesn't hold what a checkpoint of that step and of these tasks does.
    """
    path = os.path.join(folder, CURVES)
    curves = read_model(path, CurvesState, _LIMITS)
    if (odd := curves.fault(names, step)) is not None:
        raise faults(path, [odd])
    path = os.path.join(folder, TIMES)
    times = read_model(path, Times)
    if odd_steps := [one for one in times.resumed_from if one > step]:
        raise faults(path, [("resumed_from", odd_steps[0], f"steps up to {step}")])
    return curves, times


def progress_check(names: Sequence[str], known: Collection[str]) -> Callable[[str, int], object]:
    """check(folder, step), which raises FileError or OSError for a checkpoint that no training can go on from.

    names: the tasks. known: the fields of the installed transformers' `TrainerState`, which takes no others.
    """

    def check(folder: str, step: int) -> None:
        read_progress(folder, names, step)
        path = os.path.join(folder, STATE)
        state = read_object(path, _LIMITS)
        if parse(TrainerState, state, path).global_step != step:
            raise faults(path, [("global_step", state["global_step"], str(step))])
        if strange := sorted(state.keys() - set(known)):
            raise faults(path, [(strange[0], state[strange[0]], "a field that the installed transformers knows")])

    return check
