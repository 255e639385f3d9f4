"""`training.json`: what was trained, on what, how it went, what it took."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from slmbench.files import file_sha256
from slmbench.formats import dated
from slmbench.machine import code, hardware, packages
from slmbench.models import LoadedModel, ModelSource, read_adapter
from slmbench.recipe import Recipe
from slmbench.runs import READS, TRAINING, TrainedBase, now
from slmbench.training._held_out import prompt_digest
from slmbench.training._kept import OPTIMIZER
from slmbench.training._methods import ADAPTER_WEIGHTS, MODEL_WEIGHTS
from slmbench.training._prepare import Preparation
from slmbench.training._rows import TrainingRow, mixture
from slmbench.values import JsonObject

if TYPE_CHECKING:
    from transformers import Trainer


def result_sha256(folder: str, method: str) -> str:
    """sha256 of what a training made: an adapter's as runs name it, with its config; of a whole model its weights'.

    Raises OSError; UsageError if a folder holds no adapter.
    """
    if method != "full":
        return read_adapter(folder).sha256
    return file_sha256(os.path.join(folder, MODEL_WEIGHTS))


def _prompts(rows: Sequence[TrainingRow], task: str) -> list[str]:
    return sorted({prompt_digest(row) for row in rows if row.task == task})


def _base(source: ModelSource) -> JsonObject:
    """What finds the base again: a name alone may be another model's by then."""
    return TrainedBase(
        name=source.name, id=source.id, location=source.given, revision=source.revision, twin=source.twin
    ).model_dump()


def training_record(
    recipe: Recipe,
    name: str,
    prepared: Preparation,
    loaded: LoadedModel,
    trainer: Trainer,
    *,
    folder: str,
    compared: Mapping[str, int],
    memory: Sequence[Mapping[str, int]],
    seconds: Mapping[str, float],
    autocast: str | None,
) -> JsonObject:
    """The record of a training that has ended. folder: where its weights were written. memory: of each process.

    train_s is of the steps alone, over all attempts; seconds by phase are of the last one. tokens_per_second counts
    prompt and answer tokens, no padding.
    """
    import torch

    spec, plan = prepared.spec, prepared.plan
    rows, validation = prepared.rows, prepared.validation
    steps = trainer.state.global_step
    realised = plan.realised(rows, steps * plan.accumulate)
    train_s = trainer.seconds_before + seconds.get("steps", 0.0)
    weights = MODEL_WEIGHTS if spec.method == "full" else ADAPTER_WEIGHTS
    made_of = mixture(rows, prepared.dropped)
    curves = trainer.curves.as_json()
    optimizer = os.path.join(folder, OPTIMIZER)
    most = {key: max(one[key] for one in memory) for key in memory[0]}
    return {
        "schema": READS[TRAINING][-1],
        "recipe": recipe.name,
        "variant": recipe.variant,
        "recipe_sha256": recipe.digest_of(name),
        "setting_sha256": recipe.digest_of(name, seed=False),
        "settings": spec.model_dump(mode="json", exclude={"published"})
        | {"adapters": {name: spec.adapters[name].model_dump(mode="json")}},
        "method": spec.method,
        "model": loaded.source.name,
        "base": _base(loaded.source),
        "architecture": loaded.architecture,
        "base_weights_sha256": loaded.weights_sha256,
        **({"init_adapter": prepared.first.as_record().model_dump()} if prepared.first is not None else {}),
        "base_parameters": loaded.parameters,
        **({"notices": notices} if (notices := [*loaded.notices, *dated(prepared.style, loaded.tokenizer)]) else {}),
        "quantization": loaded.quantization,
        "dtype": loaded.dtype,
        "compute_dtype": autocast or loaded.dtype,
        "trainable_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "bytes": os.path.getsize(os.path.join(folder, weights)),
        "sha256": result_sha256(folder, spec.method),
        **({"optimizer_sha256": file_sha256(optimizer)} if os.path.isfile(optimizer) else {}),
        "seed": spec.seed,
        "steps": steps,
        "resumed_from": list(trainer.resumed_from),
        "mixture": realised,
        "tasks": {
            task: {
                **made_of[task],
                "rows_seen": realised["tasks"][task]["rows"],
                "tokens_seen": realised["tasks"][task]["tokens"],
                "validation_rows": sum(row.task == task for row in validation),
                **({"validation_prompts": kept} if (kept := _prompts(validation, task)) else {}),
                "parity_rows": compared[task],
            }
            for task in prepared.names
        },
        "curves": curves,
        "loss": [{"step": point["step"], "loss": point["loss"]} for point in curves["train"]],
        "contamination": prepared.contamination,
        "memory": {
            "forecast": prepared.forecast.as_json(),
            **most,
            **({"processes": [dict(one) for one in memory]} if len(memory) > 1 else {}),
        },
        "ram_peak_bytes": most["peak_ram_bytes"],
        "train_s": round(train_s, 2),
        "seconds": {phase: round(taken, 3) for phase, taken in seconds.items()},
        "tokens_per_second": round(realised["tokens"] / train_s, 1) if train_s else None,
        "ended": now(),
        "code": code(),
        "packages": packages(),
        "hardware": hardware(),
        "processes": len(memory),
        "threads": torch.get_num_threads(),
    }
