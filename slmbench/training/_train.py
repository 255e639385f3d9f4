"""A recipe's adapter: from rows to a folder that is whole or not there, going on from where a kill left it."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import evolve

from slmbench.catalog import Catalog
from slmbench.console import bar, say
from slmbench.errors import SlmbenchError
from slmbench.files import disk_errors, only_writer, restore_swapped
from slmbench.interrupts import SIGNALS, deferred
from slmbench.machine import Freed, reset_peak_memory, treat_freed
from slmbench.models import LoadedModel, ModelSource
from slmbench.paths import shown
from slmbench.recipe import Recipe
from slmbench.runs import canonical_sha256, write_training
from slmbench.training._attention import prepare_model
from slmbench.training._checkpoints import latest, newest_step, write_synced
from slmbench.training._folders import (
    TrainingFolders,
    is_finished,
    leaving_no_empty_folders,
    refuse_foreign,
    refuse_unwritable,
)
from slmbench.training._forecast import calibrate
from slmbench.training._kept import OPTIMIZER, kept_bytes, random_bytes
from slmbench.training._launch import TrainingCall, launch_training, place_of, refuse_launch
from slmbench.training._methods import (
    compute_dtype,
    load_base,
    save_model,
    trainable_model,
    write_weights,
)
from slmbench.training._parity import check_parity
from slmbench.training._prepare import Phases, Preparation, prepare_training
from slmbench.training._progress import progress_check
from slmbench.training._record import training_record
from slmbench.training._rows import as_dataset
from slmbench.training._team import Team
from slmbench.training._trackers import TrackedTraining, Trackers, require_trackers
from slmbench.training._trainer import TrainerJob, begin_with_nothing, build_trainer
from slmbench.values import JsonObject

if TYPE_CHECKING:
    from datasets import Dataset as HubDataset
    from transformers import Trainer


def train_adapter(
    recipe: Recipe,
    name: str,
    catalog: Catalog,
    source: ModelSource,
    *,
    out: str,
    data: str = "auto",
    resume: bool = True,
    track: Sequence[str] = (),
) -> str:
    """Trains one adapter of a recipe into `<out>/adapters/<name>` and returns that folder.

    With `method: full` a whole model is trained, into `<out>/models/<name>`, which `resolve_model` takes as a folder.
    One that is there already and was made by the same settings on the same rows and weights is kept; one of other
    settings is set aside, beside it. One that was killed goes on from its last checkpoint, to the same weights as if
    it had not been; resume=False starts anew whatever there is. Ctrl-C ends it after the step under way, with a
    checkpoint. track: trackers (TRACKERS) that are told how it goes; one that fails is given up, and noted.

    Raises UsageError, DataError, ParityError, OfflineError before a step is made; SlmbenchError if a loss is no
    number (the last good checkpoint is kept) or the disk is full (so is everything that was written whole).
    """
    require_trackers(track)
    place = place_of(recipe, out)
    refuse_foreign(os.path.join(place, name))
    refuse_unwritable(place)
    refuse_launch(recipe, name)
    asked = TrainingCall(recipe, name, catalog, source, out=out, data=data, resume=resume, track=tuple(track))
    phases = Phases(name)
    prepared = prepared_for(asked, Team(), phases) if recipe.spec.launch.processes == 1 else None
    with leaving_no_empty_folders(place), only_writer(os.path.join(place, f".{name}.lock")):
        restore_swapped(os.path.join(place, name))
        return launch_training(asked) if prepared is None else train_prepared(asked, prepared, Team(), phases)


def prepared_for(asked: TrainingCall, team: Team, phases: Phases) -> Preparation:
    """What is settled before weights are loaded. Raises what `train_adapter` does before a step is made."""
    name, place = asked.name, place_of(asked.recipe, asked.out)
    among = team if team.size > 1 else None
    try:
        return prepare_training(
            asked.recipe, name, asked.catalog, asked.source, data=asked.data, phases=phases, team=among, place=place
        )
    except KeyboardInterrupt:
        say(f"{name}: interrupted before its training began; {shown(place)} is unchanged")
        raise


def train_prepared(
    asked: TrainingCall,
    prepared: Preparation,
    team: Team,
    phases: Phases,
    told: Callable[[str, int], object] | None = None,
) -> str:
    """Makes a training whose place this process, or the one that started it, holds; returns the result's folder.

    team: the processes that make it together, each of which calls this. told: where the checkpoints go, and of how many
    steps. Raises what `train_adapter` does.
    """
    recipe, name, place, spec = asked.recipe, asked.name, place_of(asked.recipe, asked.out), prepared.spec
    # Checkpointing and a packed base trade time for memory.
    spares = spec.optim.gradient_checkpointing or spec.method == "qlora"
    treat_freed(Freed.GIVEN_BACK if spares else Freed.KEPT)
    with phases.phase("load"):
        loaded = load_base(prepared.source, spec)
    for notice in loaded.notices:
        say(f"{loaded.source.name}: {notice}")
    identity = canonical_sha256([prepared.identity, loaded.weights_sha256, loaded.config_sha256])
    team.agree("recipe, base or rows", identity)
    folders = TrainingFolders(place, name, identity)
    keeps = OPTIMIZER if recipe.spec.keeps_optimizer(name) else None
    if team.shared(team.leads and asked.resume and folders.is_there(keeps)):
        if team.leads:
            shutil.rmtree(folders.partial, ignore_errors=True)
        return folders.result
    if not team.leads:
        _train(asked, prepared, loaded, folders, phases, team)
        return folders.result
    if not asked.resume:
        shutil.rmtree(folders.partial, ignore_errors=True)
    folders.tell_others()
    with disk_errors(folders.partial):
        os.makedirs(folders.checkpoints, exist_ok=True)
    if told is not None:
        told(folders.checkpoints, prepared.plan.steps)
    try:
        shutil.rmtree(folders.finished, ignore_errors=True)
        _train(asked, prepared, loaded, folders, phases, team)
    except KeyboardInterrupt:
        say(_what_is_kept(name, folders, prepared.plan.steps))
        raise
    finally:
        if newest_step(folders.checkpoints) is None:
            shutil.rmtree(folders.partial, ignore_errors=True)
        del loaded
        gc.collect()
    return folders.result


def _train(
    asked: TrainingCall,
    prepared: Preparation,
    loaded: LoadedModel,
    folders: TrainingFolders,
    phases: Phases,
    team: Team,
) -> None:
    """Makes the steps and puts the result in its place. Raises KeyboardInterrupt if it is asked to end."""
    import torch
    import transformers

    recipe, name, spec, names = asked.recipe, asked.name, prepared.spec, prepared.names
    dataset = as_dataset(prepared.rows, names, loaded.architecture, loss=spec.loss)
    with phases.phase("parity"):
        compared = _hold_parity(prepared, loaded, dataset)
    known = {field.name for field in dataclasses.fields(transformers.TrainerState)}
    checkpoint = None
    if team.leads:
        checkpoint = latest(folders.checkpoints, folders.identity, progress_check(names, known))
    checkpoint = team.shared(checkpoint)
    with phases.phase("model"):
        transformers.set_seed(spec.seed)
        autocast = compute_dtype(loaded, spec)
        model = trainable_model(loaded, spec)
        if prepared.first is not None:
            prepared.first.put_on(model, loaded)
        flat = prepare_model(model)
    before = 0 if checkpoint is None else checkpoint.step
    job = TrainerJob(
        plan=prepared.plan,
        batches=prepared.plan.part(prepared.rows, team.rank, team.size),
        team=team,
        optim=spec.optim,
        names=names,
        architecture=loaded.architecture,
        pad_id=loaded.tokenizer.pad_token_id or 0,
        flat=flat,
        autocast=None if autocast == "float32" else autocast,
        place=folders.checkpoints,
        identity=folders.identity,
        keep=spec.checkpoint.keep,
        checkpoint_steps=spec.checkpoint.every_steps,
        checkpoint_s=spec.checkpoint.every_minutes * 60,
        log_steps=spec.log_every_steps,
        validation=_validation_rows(prepared, loaded.architecture),
        validation_steps=spec.validation.every_steps if spec.validation is not None else 0,
        lr_ratio=spec.lora.lr_ratio if spec.method != "full" else None,
        kept=prepared.first.kept if prepared.first is not None else None,
    )
    with phases.phase("trainer"):
        fp16 = autocast == "float16" and torch.cuda.is_available()
        trainer = build_trainer(
            job, model, loaded.tokenizer, dataset, seed=spec.seed, fp16=fp16, folder=folders.partial
        )
    if checkpoint is not None:
        say(f"going on from step {checkpoint.step} of {prepared.plan.steps} ({shown(checkpoint.folder)})")
    trackers = Trackers(TrackedTraining.of(recipe.name, name, folders.identity, asked.out, before))
    if asked.track and team.leads:
        trackers.begin(asked.track, trainer)
    reset_peak_memory()
    told = f"{name}: the current step is finished and kept; Ctrl-C again ends at once"
    # Among several SIGTERM comes from the one that started them: another has died, and there is nothing to wait for.
    with deferred(job.interrupted, told, SIGNALS if team.size == 1 else (signal.SIGINT,)):
        if prepared.plan.steps:
            with phases.timed("steps"), bar(f"train {name}", prepared.plan.steps, "steps", before=before):
                try:
                    trainer.train(resume_from_checkpoint=None if checkpoint is None else checkpoint.folder)
                finally:
                    trackers.end()
        else:
            trackers.end()
            begin_with_nothing(trainer)
        if trainer.state.global_step < prepared.plan.steps:
            raise KeyboardInterrupt
        job.memory.note()
        memory = team.gathered(dict(job.memory.found))
        random = team.gathered(random_bytes()) if recipe.spec.keeps_optimizer(name) else []
        if not team.leads:
            return
        record = {"trackers": trackers.as_record()} if asked.track else {}
        _write(recipe, name, prepared, loaded, folders, trainer, compared, phases, memory, random, record)
        with disk_errors(folders.result):
            folders.put(folders.finished)
        shutil.rmtree(folders.partial, ignore_errors=True)


def _write(
    recipe: Recipe,
    name: str,
    prepared: Preparation,
    loaded: LoadedModel,
    folders: TrainingFolders,
    trainer: Trainer,
    compared: Mapping[str, int],
    phases: Phases,
    memory: Sequence[Mapping[str, int]],
    random: Sequence[bytes],
    more: Mapping[str, object],
) -> None:
    """Writes `folders.finished`: what was trained, and its record.

    memory: of each process; random: what each would draw next, empty if nothing is kept to go on from. more: what the
    record has beside what it always has.
    """
    import torch

    job, model = trainer.job, trainer.model
    model.eval()
    broken = [key for key, p in model.named_parameters() if p.requires_grad and not torch.isfinite(p).all()]
    if broken:
        raise SlmbenchError(
            f"{len(broken)} of the trained tensors are NaN or infinite; lower optim.lr ({job.optim.lr:g}) or "
            "optim.clip_norm"
        )
    with phases.phase("save"), disk_errors(folders.finished):
        os.makedirs(folders.finished)
        if recipe.spec.method == "full":
            save_model(model, loaded.tokenizer, folders.finished)
        else:
            write_weights(model, lambda file, data: write_synced(os.path.join(folders.finished, file), data))
        if random:
            steps = prepared.done + prepared.plan.steps
            kept = kept_bytes(trainer, job.optim.optimizer, prepared.order, steps, random)
            write_synced(os.path.join(folders.finished, OPTIMIZER), kept)
    forecast = prepared.forecast
    if prepared.plan.steps:
        forecast = calibrate(forecast, job.memory.found["first_step_bytes"], prepared.largest_batch(0, job.team))
    record = training_record(
        recipe,
        name,
        evolve(prepared, forecast=forecast),
        loaded,
        trainer,
        folder=folders.finished,
        compared=compared,
        memory=memory,
        seconds=phases.seconds,
        autocast=job.autocast,
    )
    record |= {"identity_sha256": folders.identity, **more}
    with contextlib.suppress(AttributeError):  # Its references keep the model alive, and the next one has to fit too.
        trainer.callback_handler.model = None
    write_training(folders.finished, record)


def _what_is_kept(name: str, folders: TrainingFolders, steps: int) -> str:
    """What an interrupted training leaves behind, as a line."""
    if is_finished(folders.result, folders.identity):
        return f"{name}: its training had already ended: {shown(folders.result)} is whole"
    step = newest_step(folders.checkpoints)
    if step is None:
        return f"{name}: interrupted before its first checkpoint; nothing of this training is kept"
    return (
        f"{name}: interrupted; the same command goes on from step {step} of {steps}, whose checkpoint is kept in "
        f"{shown(folders.checkpoints)}"
    )


def _hold_parity(prepared: Preparation, loaded: LoadedModel, dataset: HubDataset) -> dict[str, int]:
    """task -> rows compared. Held on what is fed. Raises ParityError."""
    compared = {}
    for number, task in enumerate(prepared.tasks):
        places = [i for i, row in enumerate(prepared.rows) if row.task == task.name]
        part = [prepared.rows[i] for i in places]
        fed = dataset.select(places)
        assert not part or fed[0]["task_id"] == number
        compared[task.name] = check_parity(loaded, task, prepared.style, part, fed, loss=prepared.spec.loss)
    return compared


def _validation_rows(prepared: Preparation, architecture: str) -> dict[str, list[JsonObject]]:
    if not prepared.validation:
        return {}
    loss = prepared.spec.loss
    fed = as_dataset(prepared.validation, prepared.names, architecture, loss=loss).to_list()
    found: dict[str, list[JsonObject]] = {}
    for row, made in zip(prepared.validation, fed, strict=True):
        found.setdefault(row.task, []).append(made)
    return found
