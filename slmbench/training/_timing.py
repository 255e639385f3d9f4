"""How long a training's steps will take, from one or two of them gone through for real."""

from __future__ import annotations

import contextlib
import math
import time

from slmbench.models import LoadedModel
from slmbench.training._attention import prepare_model
from slmbench.training._forward import collate, row_losses
from slmbench.training._methods import compute_dtype, load_base, trainable_model
from slmbench.training._prepare import Preparation
from slmbench.training._rows import as_dataset

ENOUGH_S = 3.0
"""No further micro-batch is begun after so long."""
MEASURED = 5


def seconds_per_token(prepared: Preparation) -> float:
    """Seconds that a token of a micro-batch takes, forward and backward; nothing is trained, nothing is written.

    Measured on the smallest micro-batch, which warms up, and on one of middle size, a few times; what the optimiser,
    validation and checkpoints take comes on top. Raises SlmbenchError if the base can't be loaded.
    """
    spec = prepared.spec
    loaded = load_base(prepared.source, spec)
    autocast = compute_dtype(loaded, spec)
    model = trainable_model(loaded, spec)
    flat = prepare_model(model)
    model.train()
    if spec.optim.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    tokens_of = [sum(prepared.rows[i].length for i in batch) for batch in prepared.plan.batches]
    order = sorted(range(len(tokens_of)), key=tokens_of.__getitem__)
    middle, rate, began = order[len(order) // 2], math.inf, time.perf_counter()
    for number, which in enumerate((order[0], *[middle] * MEASURED)):
        rows = [prepared.rows[i] for i in prepared.plan.batches[which]]
        dataset = as_dataset(rows, prepared.names, loaded.architecture, loss=spec.loss)
        batch = collate(dataset.to_list(), loaded.tokenizer.pad_token_id or 0, loaded.architecture, flat=flat)
        batch = {key: value.to(loaded.model.device) for key, value in batch.items()}
        started = time.perf_counter()
        with _autocast(loaded, autocast):
            row_losses(model, batch).loss.backward()
        took = time.perf_counter() - started
        model.zero_grad(set_to_none=True)
        # The quickest is what the machine can do: what else runs on it only takes away.
        rate = took / tokens_of[which] if number < 2 else min(rate, took / tokens_of[which])
        if time.perf_counter() - began > ENOUGH_S:
            break
    return rate


def _autocast(loaded: LoadedModel, dtype: str) -> contextlib.AbstractContextManager[object]:
    import torch

    if dtype == "float32":
        return contextlib.nullcontext()
    found: contextlib.AbstractContextManager[object] = torch.autocast(
        loaded.model.device.type, dtype=getattr(torch, dtype)
    )
    return found
