"""What a training leaves at a checkpoint, how it goes on from one, and what is said if it has to stop before one."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from typing import TYPE_CHECKING

from slmbench.errors import SlmbenchError
from slmbench.paths import shown
from slmbench.training._checkpoints import (
    folder_name,
    load_state,
    newest_step,
    random_states,
    restoring,
    set_random_states,
    to_bytes,
    writing,
)
from slmbench.training._methods import read_weights, write_weights
from slmbench.training._progress import CURVES, STATE, TIMES, read_progress

if TYPE_CHECKING:
    from transformers import Trainer

    from slmbench.training._trainer import TrainerJob

OPTIMIZER, SCHEDULER, SCALER = "optimizer.pt", "scheduler.pt", "scaler.pt"


def stopped(job: TrainerJob, step: int, what: str, *, taken: bool = False) -> str:
    """taken: whether the step has changed weights already, as where they are looked at afterwards."""
    kept = newest_step(job.place)
    where = (
        f"the checkpoint of step {kept} is kept in {shown(os.path.join(job.place, folder_name(kept)))}"
        if kept is not None
        else f"no checkpoint was made yet (checkpoint.every_steps is {job.checkpoint_steps})"
    )
    when = "after this step" if taken else "before this step changed a weight"
    if step == 1 and not taken:
        what += ", with the base's own weights: they may be damaged"
    return (
        f"step {step}: {what}; the training was stopped {when}, and {where}. Lower optim.lr "
        f"({job.optim.lr:g}) or optim.clip_norm ({job.optim.clip_norm:g}), or look at that task's rows, and train again"
    )


def save_progress(trainer: Trainer) -> None:
    """A checkpoint of the step that was made, by the first process; all of several call it."""
    import torch

    job, step = trainer.job, trainer.state.global_step
    for name, parameter in trainer.model.named_parameters():
        if parameter.requires_grad and not torch.isfinite(parameter).all():
            raise SlmbenchError(stopped(job, step, f"{name} became NaN or infinite", taken=True))
    job.memory.note()
    memory, *others = job.team.gathered(dict(job.memory.found))
    random = job.team.gathered(to_bytes(random_states()))
    if not job.team.leads:
        trainer.saved = time.perf_counter()
        return
    times = {"seconds": round(seconds_of(trainer), 3), "resumed_from": trainer.resumed_from, "memory": memory}
    if others:
        times["others"] = others
    with writing(job.place, step, job.identity, keep=job.keep) as write:
        write_weights(trainer.model, write)
        write(OPTIMIZER, to_bytes(trainer.optimizer.state_dict()))
        write(SCHEDULER, to_bytes(trainer.lr_scheduler.state_dict()))
        if getattr(trainer.accelerator, "scaler", None) is not None:
            write(SCALER, to_bytes(trainer.accelerator.scaler.state_dict()))
        for rank, states in enumerate(random):
            write(_random_name(rank), states)
        write(CURVES, json.dumps(trainer.curves.state()).encode())
        write(TIMES, json.dumps(times).encode())
        write(STATE, json.dumps(dataclasses.asdict(trainer.state), sort_keys=True).encode())
    trainer.saved = time.perf_counter()


def restore_weights(trainer: Trainer, checkpoint: str) -> None:
    """Puts a checkpoint's weights into the model. Raises FileError or SlmbenchError if they don't fit."""
    with restoring(checkpoint):
        read_weights(trainer.model, checkpoint)


def restore_progress(trainer: Trainer, checkpoint: str) -> None:
    """Puts back the states of optimiser and schedule, curves, times and memory. Raises FileError."""
    for name, what in ((OPTIMIZER, trainer.optimizer), (SCHEDULER, trainer.lr_scheduler)):
        path = os.path.join(checkpoint, name)
        with restoring(path):
            what.load_state_dict(load_state(path))
    curves, times = read_progress(checkpoint, trainer.job.names, trainer.state.global_step)
    trainer.curves.restore(curves.model_dump())
    trainer.seconds_before = times.seconds
    memories = [times.memory, *times.others]
    if trainer.job.team.rank < len(memories):
        trainer.job.memory.add(memories[trainer.job.team.rank].model_dump())
    trainer.resumed_from = [*times.resumed_from, trainer.state.global_step]


def restore_random(trainer: Trainer, checkpoint: str) -> None:
    """Puts back this process' random states, if it was one of those that made the checkpoint. Raises FileError."""
    path = os.path.join(checkpoint, _random_name(trainer.job.team.rank))
    if trainer.job.team.rank and not os.path.exists(path):
        return
    with restoring(path):
        set_random_states(load_state(path))


def seconds_of(trainer: Trainer) -> float:
    """Since the training began, over all its attempts."""
    return float(trainer.seconds_before + time.perf_counter() - trainer.started)


def _random_name(rank: int) -> str:
    """The file of a checkpoint with a process' own random states."""
    return f"random-{rank}.pt" if rank else "random.pt"
