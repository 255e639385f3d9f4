"""What each row's answer costs a model, without training it: what candidates of a search are told apart by."""

from __future__ import annotations

import math
from collections.abc import Sequence

from slmbench.models import LoadedModel
from slmbench.training._forward import collate, row_losses
from slmbench.training._rows import TrainingRow, as_dataset

_ROWS_AT_ONCE = 16


def answer_losses(model: LoadedModel, rows: Sequence[TrainingRow]) -> list[float]:
    """The mean loss of each row's answer tokens, in nats, by the model as it is."""
    import torch

    fed = as_dataset(rows, sorted({row.task for row in rows}), model.architecture).to_list()
    order = sorted(range(len(fed)), key=lambda i: len(fed[i]["input_ids"]))
    found = [math.nan] * len(fed)
    pad = model.tokenizer.pad_token_id
    pad = model.tokenizer.eos_token_id if pad is None else pad
    for start in range(0, len(order), _ROWS_AT_ONCE):
        some = order[start : start + _ROWS_AT_ONCE]
        batch = collate([fed[i] for i in some], pad or 0, model.architecture, flat=False)
        batch = {name: tensor.to(model.model.device) for name, tensor in batch.items()}
        with torch.inference_mode():
            made = row_losses(model.model, batch)
        for i, total, tokens in zip(some, made.sums.tolist(), made.tokens.tolist(), strict=True):
            found[i] = total / tokens
    return found
