"""A recipe's adapter: from rows to a folder that is whole or not there, going on from where a kill left it."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import evolve

from slmbench.catalog import Catalog
from slmbench.console import bar, say
from slmbench.errors import SlmbenchError
from slmbench.files import disk_errors, only_writer, restore_swapped
from slmbench.interrupts import deferred
from slmbench.machine import Freed, reset_peak_memory, treat_freed
from slmbench.models import LoadedModel, ModelSource
from slmbench.paths import shown
from slmbench.recipe import Recipe
from slmbench.runs import canonical_sha256, write_training
from slmbench.training._attention import prepare_model
from slmbench.training._checkpoints import latest, newest_step, write_synced
from slmbench.training._folders import TrainingFolders, is_finished, refuse_foreign, refuse_unwritable
from slmbench.training._forecast import calibrate
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
from slmbench.training._trainer import TrainerJob, build_trainer
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
) -> str:
    """Trains one adapter of a recipe into `<out>/adapters/<name>` and returns that folder.

    With `method: full` a whole model is trained, into `<out>/models/<name>`, which `resolve_model` takes as a folder.
    One that is there already and was made by the same settings on the same rows and weights is kept; one of other
    settings is set aside, beside it. One that was killed goes on from its last checkpoint, to the same weights as if
    it had not been; resume=False starts anew whatever there is. Ctrl-C ends it after the step under way, with a
    checkpoint.

    Raises UsageError, DataError, ParityError, OfflineError before a step is made; SlmbenchError if a loss is no
    number (the last good checkpoint is kept) or the disk is full (so is everything that was written whole).
    """
    phases = Phases(name)
    place = os.path.join(out, "models" if recipe.spec.method == "full" else "adapters")
    refuse_foreign(os.path.join(place, name))
    refuse_unwritable(place)
    try:
        prepared = prepare_training(recipe, name, catalog, source, data=data, phases=phases)
    except KeyboardInterrupt:
        say(f"{name}: interrupted before its training began; {shown(place)} is unchanged")
        raise
    with only_writer(os.path.join(place, f".{name}.lock")):
        restore_swapped(os.path.join(place, name))
        # Checkpointing and a packed base trade time for memory.
        spares = recipe.optim_of(name).gradient_checkpointing or recipe.spec.method == "qlora"
        treat_freed(Freed.GIVEN_BACK if spares else Freed.KEPT)
        with phases.phase("load"):
            loaded = load_base(prepared.source, recipe.spec)
        for notice in loaded.notices:
            say(f"{loaded.source.name}: {notice}")
        identity = canonical_sha256([prepared.identity, loaded.weights_sha256, loaded.config_sha256])
        folders = TrainingFolders(place, name, identity)
        if resume and folders.is_there():
            shutil.rmtree(folders.partial, ignore_errors=True)
            return folders.result
        if not resume:
            shutil.rmtree(folders.partial, ignore_errors=True)
        folders.tell_others()
        with disk_errors(folders.partial):
            os.makedirs(folders.checkpoints, exist_ok=True)
        try:
            shutil.rmtree(folders.finished, ignore_errors=True)
            _train(recipe, name, prepared, loaded, folders, phases)
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
    recipe: Recipe,
    name: str,
    prepared: Preparation,
    loaded: LoadedModel,
    folders: TrainingFolders,
    phases: Phases,
) -> None:
    """Makes the steps and puts the result in its place. Raises KeyboardInterrupt if it is asked to end."""
    import torch
    import transformers

    spec, names = recipe.spec, prepared.names
    dataset = as_dataset(prepared.rows, names, loaded.architecture)
    with phases.phase("parity"):
        compared = _hold_parity(prepared, loaded, dataset)
    known = {field.name for field in dataclasses.fields(transformers.TrainerState)}
    checkpoint = latest(folders.checkpoints, folders.identity, progress_check(names, known))
    with phases.phase("model"):
        transformers.set_seed(spec.seed)
        autocast = compute_dtype(loaded, spec)
        model = trainable_model(loaded, spec)
        flat = prepare_model(model)
    before = 0 if checkpoint is None else checkpoint.step
    job = TrainerJob(
        plan=prepared.plan,
        optim=recipe.optim_of(name),
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
    )
    with phases.phase("trainer"):
        fp16 = autocast == "float16" and torch.cuda.is_available()
        trainer = build_trainer(
            job, model, loaded.tokenizer, dataset, seed=spec.seed, fp16=fp16, folder=folders.partial
        )
    if checkpoint is not None:
        say(f"going on from step {checkpoint.step} of {prepared.plan.steps} ({shown(checkpoint.folder)})")
    reset_peak_memory()
    told = f"{name}: the current step is finished and kept; Ctrl-C again ends at once"
    with deferred(job.interrupted, told):
        with phases.timed("steps"), bar(f"train {name}", prepared.plan.steps, "steps", before=before):
            trainer.train(resume_from_checkpoint=None if checkpoint is None else checkpoint.folder)
        if trainer.state.global_step < prepared.plan.steps:
            raise KeyboardInterrupt
        job.memory.note()
        _write(recipe, name, prepared, loaded, folders, trainer, compared, phases)
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
) -> None:
    """Writes `folders.finished`: what was trained, and its record."""
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
    forecast = prepared.forecast
    forecast = calibrate(forecast, job.memory.found["first_step_bytes"], prepared.largest_batch(0))
    record = training_record(
        recipe,
        name,
        evolve(prepared, forecast=forecast),
        loaded,
        trainer,
        folder=folders.finished,
        compared=compared,
        memory=job.memory.found,
        seconds=phases.seconds,
        autocast=job.autocast,
    )
    record["identity_sha256"] = folders.identity
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
        compared[task.name] = check_parity(loaded, task, prepared.style, part, fed)
    return compared


def _validation_rows(prepared: Preparation, architecture: str) -> dict[str, list[JsonObject]]:
    if not prepared.validation:
        return {}
    fed = as_dataset(prepared.validation, prepared.names, architecture).to_list()
    found: dict[str, list[JsonObject]] = {}
    for row, made in zip(prepared.validation, fed, strict=True):
        found.setdefault(row.task, []).append(made)
    return found
