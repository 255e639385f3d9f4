"""A recipe's adapter: from rows to a folder that is whole or not there, going on from where a kill left it."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
from collections.abc import Callable
from typing import Any

from attrs import evolve

from slmbench.catalog import Catalog
from slmbench.errors import SlmbenchError
from slmbench.files import disk_errors, only_writer, restore_swapped, write_json
from slmbench.models import LoadedModel, ModelSource
from slmbench.paths import shown
from slmbench.recipe import Recipe
from slmbench.runs import canonical_sha256, reset_peak_memory
from slmbench.training._allocator import give_back_large_blocks, spares_memory
from slmbench.training._attention import prepare_model
from slmbench.training._checkpoints import latest, newest_step, write_synced
from slmbench.training._folders import TrainingFolders, refuse_foreign, refuse_unwritable
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
from slmbench.training._record import training_record
from slmbench.training._rows import as_dataset
from slmbench.training._trainer import Job, build_trainer

Progress = Callable[[str, int], Callable[[int], Any]]
Say = Callable[[str], Any]


def train_adapter(
    recipe: Recipe,
    name: str,
    catalog: Catalog,
    source: ModelSource,
    *,
    out: str,
    data: str = "auto",
    progress: Progress | None = None,
    resume: bool = True,
    say: Say | None = None,
) -> str:
    """Trains one adapter of a recipe into `<out>/adapters/<name>` and returns that folder.

    With `method: full` a whole model is trained, into `<out>/models/<name>`, which `resolve_model` takes as a folder.
    One that is there already and was made by the same settings on the same rows and weights is kept; one of other
    settings is set aside, beside it. One that was killed goes on from its last checkpoint, to the same weights as if
    it had not been; resume=False starts anew whatever there is. say: a line for the person, of each log step, of a
    resume, of checkpoints that are no use.

    Raises UsageError, DataError, ParityError, OfflineError before a step is made; SlmbenchError where a loss is no
    number (the last good checkpoint is kept) or the disk is full (so is everything that was written whole).
    """
    say = say or (lambda _: None)
    phases = Phases()
    place = os.path.join(out, "models" if recipe.spec.method == "full" else "adapters")
    refuse_foreign(os.path.join(place, name))
    refuse_unwritable(place)
    prepared = prepare_training(recipe, name, catalog, source, data=data, say=say, phases=phases)
    with only_writer(os.path.join(place, f".{name}.lock")):
        restore_swapped(os.path.join(place, name))
        if spares_memory(recipe.spec, recipe.optim_of(name)):
            give_back_large_blocks()
        with phases.phase("load"):
            loaded = load_base(prepared.source, recipe.spec)
        for notice in loaded.notices:
            say(f"{loaded.source.name}: {notice}")
        identity = canonical_sha256([prepared.identity, loaded.weights_sha256, loaded.config_sha256])
        folders = TrainingFolders(place, name, identity)
        if resume and folders.is_there(say):
            shutil.rmtree(folders.partial, ignore_errors=True)
            return folders.result
        if not resume:
            shutil.rmtree(folders.partial, ignore_errors=True)
        folders.tell_others(say)
        with disk_errors(folders.partial):
            os.makedirs(folders.checkpoints, exist_ok=True)
        try:
            shutil.rmtree(folders.finished, ignore_errors=True)
            _train(recipe, name, prepared, loaded, folders, phases, progress, say)
            with disk_errors(folders.result):
                folders.put(folders.finished, say)
            shutil.rmtree(folders.partial, ignore_errors=True)
        except KeyboardInterrupt:
            step = newest_step(folders.checkpoints)
            if step is not None:
                say(f"interrupted; the same command goes on from step {step} (in {shown(folders.checkpoints)})")
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
    progress: Progress | None,
    say: Say,
) -> None:
    """Makes the steps and writes `folders.finished`."""
    import torch
    import transformers

    spec, names = recipe.spec, prepared.names
    dataset = as_dataset(prepared.rows, names, loaded.architecture)
    with phases.phase("parity"):
        compared = _hold_parity(prepared, loaded, dataset)
    checkpoint = latest(folders.checkpoints, folders.identity, say)
    with phases.phase("model"):
        transformers.set_seed(spec.seed)
        autocast = compute_dtype(loaded, spec)
        model = trainable_model(loaded, spec)
        flat = prepare_model(model)
    job = Job(
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
        log_steps=spec.log_every_steps,
        validation=_validation_rows(prepared, loaded.architecture),
        validation_steps=spec.validation.every_steps if spec.validation is not None else 0,
        lr_ratio=spec.lora.lr_ratio if spec.method != "full" else None,
        say=say,
        advance=progress(f"train {name}", prepared.plan.steps) if progress else lambda _: None,
    )
    with phases.phase("trainer"):
        fp16 = autocast == "float16" and torch.cuda.is_available()
        trainer = build_trainer(
            job, model, loaded.tokenizer, dataset, seed=spec.seed, fp16=fp16, folder=folders.partial
        )
    if checkpoint is not None:
        say(f"going on from step {checkpoint.step} of {prepared.plan.steps} ({shown(checkpoint.folder)})")
    reset_peak_memory()
    with phases.phase("steps"):
        trainer.train(resume_from_checkpoint=None if checkpoint is None else checkpoint.folder)
    job.memory.note()
    model.eval()
    broken = [key for key, p in model.named_parameters() if p.requires_grad and not torch.isfinite(p).all()]
    if broken:
        raise SlmbenchError(
            f"{len(broken)} of the trained tensors are no numbers any more; lower optim.lr ({job.optim.lr:g}) or "
            "optim.clip_norm"
        )
    with phases.phase("save"), disk_errors(folders.finished):
        os.makedirs(folders.finished)
        if spec.method == "full":
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
    write_json(os.path.join(folders.finished, "training.json"), record)


def _hold_parity(prepared: Preparation, loaded: LoadedModel, dataset: Any) -> dict[str, int]:
    """task -> rows compared. Held on what is fed. Raises ParityError."""
    compared = {}
    for number, task in enumerate(prepared.tasks):
        places = [i for i, row in enumerate(prepared.rows) if row.task == task.name]
        part = [prepared.rows[i] for i in places]
        fed = dataset.select(places)
        assert not part or fed[0]["task_id"] == number
        compared[task.name] = check_parity(loaded, task, prepared.style, part, fed)
    return compared


def _validation_rows(prepared: Preparation, architecture: str) -> dict[str, list[Any]]:
    if not prepared.validation:
        return {}
    fed = as_dataset(prepared.validation, prepared.names, architecture).to_list()
    found: dict[str, list[Any]] = {}
    for row, made in zip(prepared.validation, fed, strict=True):
        found.setdefault(row.task, []).append(made)
    return found
