"""A recipe's adapter: rows, parity, trl's SFTTrainer with a LoRA, and a folder that is whole or not there."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from typing import Any

from slmbench.catalog import Catalog
from slmbench.errors import SlmbenchError, UsageError, did_you_mean
from slmbench.files import disk_errors, only_writer, restore_swapped, swap_folder, write_json
from slmbench.formats import load_format
from slmbench.models import LoadedModel, read_adapter
from slmbench.recipe import Recipe
from slmbench.runs import canonical_sha256, code, hardware, now, packages, peak_memory_bytes, reset_peak_memory
from slmbench.schema import OptimSpec
from slmbench.task import Settings, Task, load_task
from slmbench.training._parity import check_parity
from slmbench.training._rows import TrainingRow, as_dataset, mixture, training_rows

Progress = Callable[[str, int], Callable[[int], Any]]
LOG_EVERY_STEPS = 10


class _Seen:
    """Which rows a training has had: every batch that was collated, and how many of them were trained on."""

    def __init__(self) -> None:
        self.batches: list[dict[str, int]] = []
        self.trained = 0


def train_adapter(
    recipe: Recipe,
    name: str,
    catalog: Catalog,
    loaded: LoadedModel,
    *,
    out: str,
    data: str = "auto",
    progress: Progress | None = None,
) -> str:
    """Trains one adapter of a recipe into `<out>/adapters/<name>` and returns that folder.

    An adapter that is there already and was made by the same recipe on the same rows and weights is kept.
    loaded: the base model, which is changed by this (trl patches it): load it anew for evaluation.
    Raises UsageError, DataError, ParityError before a step is made; SlmbenchError where the loss is no number.
    """
    spec = recipe.spec
    if name not in spec.adapters:
        raise UsageError(f"recipe {recipe.name!r} has no adapter {name!r}{did_you_mean(name, spec.adapters)}")
    style = load_format(spec.format)
    declared = [load_task(task, catalog, data=data) for task in spec.adapters[name].tasks]
    tasks, _ = Settings(shots=spec.shots, cot=spec.cot).of(declared)
    context = getattr(loaded.model.config, "max_position_embeddings", None)
    if context is not None and spec.max_tokens > context:
        raise UsageError(
            f"recipe {recipe.name!r}: max_tokens is {spec.max_tokens}, but {loaded.source.name!r} has a context of "
            f"{context}; lower max_tokens"
        )
    by_task = {
        task.name: training_rows(task, style, loaded.tokenizer, limit=spec.rows, max_tokens=spec.max_tokens)
        for task in tasks
    }
    rows = [row for part in by_task.values() for row in part]
    folder = os.path.join(out, "adapters", name)
    restore_swapped(folder)
    identity = canonical_sha256(
        [
            recipe.digest_of(name),
            loaded.weights_sha256,
            loaded.config_sha256,
            [[row.prompt, row.answer] for row in rows],
        ]
    )
    if _is_finished(folder, identity):
        return folder
    partial = os.path.join(out, "adapters", f".{name}.partial")
    with only_writer(os.path.join(out, "adapters", f".{name}.lock")):
        shutil.rmtree(partial, ignore_errors=True)
        with disk_errors(partial):
            os.makedirs(partial)
        try:
            record = _train(recipe, name, loaded, tasks, by_task, rows, partial, progress)
            record["identity_sha256"] = identity
            write_json(os.path.join(partial, "training.json"), record)
            with disk_errors(folder):
                swap_folder(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _train(
    recipe: Recipe,
    name: str,
    loaded: LoadedModel,
    tasks: list[Task],
    by_task: dict[str, list[TrainingRow]],
    rows: list[TrainingRow],
    partial: str,
    progress: Progress | None,
) -> dict[str, Any]:
    import peft
    import torch
    import transformers

    spec = recipe.spec
    optim = recipe.optim_of(name)
    transformers.set_seed(spec.seed)
    names = [task.name for task in tasks]
    steps = _steps(optim, len(rows))
    advance = progress(f"train {name}", steps) if progress else None
    targets = spec.lora.targets or loaded.source.lora_targets
    lora = peft.LoraConfig(
        r=spec.lora.rank,
        lora_alpha=spec.lora.alpha,
        lora_dropout=spec.lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
    seen = _Seen()
    trainer = _build_trainer(
        loaded, lora, as_dataset(rows, names), optim, steps, spec.seed, partial, names, seen, advance
    )
    # Parity is held on what the trainer holds, after trl has had its way with the rows.
    held = trainer.train_dataset
    compared, start = {}, 0
    for task in tasks:
        part = by_task[task.name]
        fed = held.select(range(start, start + len(part)))
        compared[task.name] = check_parity(loaded, task, load_format(spec.format), part, fed)
        start += len(part)
    reset_peak_memory()
    started = time.perf_counter()
    with disk_errors(partial):
        trainer.train()
    seconds = time.perf_counter() - started
    # Without a batch that the trainer's own loader prefetched past the last step.
    realised = seen.batches[: seen.trained]
    loaded.model.eval()
    model = trainer.model
    broken = [key for key, p in model.named_parameters() if p.requires_grad and not torch.isfinite(p).all()]
    if broken:
        raise SlmbenchError(
            f"{len(broken)} of the adapter's tensors are no numbers any more; lower optim.lr ({optim.lr:g}) or "
            "optim.clip_norm"
        )
    model.peft_config["default"].base_model_name_or_path = loaded.source.id
    with disk_errors(partial):
        model.save_pretrained(partial)
        for extra in ("README.md",):  # peft's empty model card says nothing that training.json doesn't.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(partial, extra))
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    losses = [{"step": entry["step"], "loss": entry["loss"]} for entry in trainer.state.log_history if "loss" in entry]
    declared = mixture(rows)
    return {
        "schema": 1,
        "recipe": recipe.name,
        "recipe_sha256": recipe.digest_of(name),
        "settings": spec.model_dump(mode="json") | {"adapters": {name: spec.adapters[name].model_dump(mode="json")}},
        "model": loaded.source.name,
        "base_weights_sha256": loaded.weights_sha256,
        "base_parameters": loaded.parameters,
        "dtype": loaded.dtype,
        "trainable_parameters": trainable,
        "seed": spec.seed,
        "steps": trainer.state.global_step,
        "tasks": {
            task: {
                **declared[task],
                "rows_seen": sum(batch.get(task, 0) for batch in realised),
                "parity_rows": compared[task],
            }
            for task in names
        },
        "loss": losses,
        "train_s": round(seconds, 2),
        "ram_peak_bytes": peak_memory_bytes(),
        "ended": now(),
        "code": code(),
        "packages": packages(),
        "hardware": hardware(),
        "threads": torch.get_num_threads(),
    }


def _build_trainer(
    loaded: LoadedModel,
    lora: Any,
    dataset: Any,
    optim: OptimSpec,
    steps: int,
    seed: int,
    folder: str,
    names: list[str],
    seen: _Seen,
    advance: Callable[[int], Any] | None,
) -> Any:
    import torch
    import transformers
    import trl
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    collate = DataCollatorForLanguageModeling(pad_token_id=loaded.tokenizer.pad_token_id)

    def count_and_collate(batch: list[dict[str, Any]]) -> Any:
        by_task: dict[str, int] = {}
        for row in batch:
            by_task[names[row["task_id"]]] = by_task.get(names[row["task_id"]], 0) + 1
        seen.batches.append(by_task)
        return collate([{key: row[key] for key in ("input_ids", "labels")} for row in batch])

    class Watch(transformers.TrainerCallback):  # type: ignore[misc]
        def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            seen.trained += 1

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            seen.trained += 1
            if advance is not None:
                advance(1)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            loss = (logs or {}).get("loss")
            if loss is not None and not math.isfinite(float(loss)):
                raise SlmbenchError(
                    f"the loss became {loss} by step {state.global_step}; lower optim.lr ({optim.lr:g}) or "
                    "optim.clip_norm"
                )

    config = trl.SFTConfig(
        output_dir=folder,
        per_device_train_batch_size=optim.batch,
        gradient_accumulation_steps=optim.accumulate,
        learning_rate=optim.lr,
        lr_scheduler_type=optim.schedule,
        warmup_steps=min(optim.warmup_steps, steps),
        max_steps=steps,
        optim=optim.optimizer,
        weight_decay=optim.weight_decay,
        max_grad_norm=optim.clip_norm,
        seed=seed,
        data_seed=seed,
        use_cpu=not torch.cuda.is_available(),
        bf16=loaded.dtype == "bfloat16",
        fp16=loaded.dtype == "float16",
        gradient_checkpointing=False,
        max_length=None,  # Rows come cut and counted; trl would cut silently.
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        logging_steps=min(LOG_EVERY_STEPS, steps),
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    try:
        trainer = trl.SFTTrainer(
            model=loaded.model,
            args=config,
            train_dataset=dataset,
            data_collator=count_and_collate,
            processing_class=loaded.tokenizer,
            peft_config=lora,
            callbacks=[Watch()],
        )
    except ValueError as error:  # Targets that the model lacks, an adapter on the head ...
        raise UsageError(f"trl or peft refuses these settings: {' '.join(str(error).split())[:400]}") from error
    trainer.remove_callback(transformers.PrinterCallback)  # It writes to stdout, which is for data.
    return trainer


def _steps(optim: OptimSpec, n_rows: int) -> int:
    if optim.steps is not None:
        return optim.steps
    a_step = optim.batch * optim.accumulate
    return max(1, math.ceil((optim.epochs or 1.0) * n_rows / a_step))


def _is_finished(folder: str, identity: str) -> bool:
    path = os.path.join(folder, "training.json")
    try:
        with open(path, encoding="utf-8") as file:
            if json.load(file).get("identity_sha256") != identity:
                return False
        read_adapter(folder)
    except (OSError, ValueError, UsageError):
        return False
    return True
