"""Batches and their loss: rows end to end where the model can, and the head on nothing but scored positions."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from attrs import frozen

from slmbench.errors import UsageError
from slmbench.models import core_model
from slmbench.training._attention import ROWS, row_mask
from slmbench.training._head import head_losses, logits_losses
from slmbench.values import JsonObject, Model, Tensor

# Those whose logits are the head's product with the last hidden state (T5's scaled), read in their code and held by
# tests. The others', which may scale or cap them, come from their own forward.
PLAIN_HEADS = frozenset({"llama", "qwen2", "qwen3", "phi3", "mistral", "smollm3"})
SCALED_HEADS = frozenset({"t5"})
IGNORED = -100


@frozen(eq=False)
class RowLosses:
    """The loss of a micro-batch. loss: what backward starts from, all scored tokens' losses over the step's tokens.

    sums: (rows,) float32, each row's summed losses in nats, without a gradient. tokens: (rows,) its scored tokens.
    """

    loss: Any
    sums: Any
    tokens: Any


def collate(rows: Sequence[JsonObject], pad_id: int, architecture: str = "causal", *, flat: bool = True) -> JsonObject:
    """The batch of some rows, each {input_ids, labels, task_id}, as int64 tensors; labels of -100 are not scored.

    causal and flat (for a model that `prepare_model` took): input_ids, labels, position_ids of (1, all tokens), rows
    end to end without padding, and row_lengths of (rows,). Else, and for seq2seq: input_ids and attention_mask of
    (rows, longest), labels of (rows, longest answer). task_id: (rows,) always. A causal row's first token is never
    scored, as nothing comes before it. Of no rows it is task_id and labels alone, both empty.
    """
    import torch

    def tensor(values: object) -> Tensor:
        return torch.tensor(values, dtype=torch.int64)

    batch = {"task_id": tensor([row.get("task_id", 0) for row in rows])}
    if not rows:
        return batch | {"labels": tensor([[]])}
    ids = [list(row["input_ids"]) for row in rows]
    labels = [list(row["labels"]) for row in rows]
    if architecture == "causal":
        labels = [[IGNORED, *of_row[1:]] for of_row in labels]
        if flat:
            return batch | {
                "input_ids": tensor([[token for row in ids for token in row]]),
                "labels": tensor([[token for row in labels for token in row]]),
                "position_ids": tensor([[position for row in ids for position in range(len(row))]]),
                "row_lengths": tensor([len(row) for row in ids]),
            }
    longest, most = max(map(len, ids)), max(map(len, labels))
    return batch | {
        "input_ids": tensor([row + [pad_id] * (longest - len(row)) for row in ids]),
        "attention_mask": tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids]),
        "labels": tensor([row + [IGNORED] * (most - len(row)) for row in labels]),
    }


def row_losses(model: Model, batch: JsonObject, num_items: Tensor | int | None = None) -> RowLosses:
    """The loss of a batch of `collate`, on the model's device; the head is computed at scored positions alone.

    num_items: the scored tokens of the whole step (an int or a tensor); None for this batch's own. Logits are float32
    from the head on. Under mixed precision call it inside autocast: the model's outer forward is not gone through.
    Raises UsageError if a flat batch meets a model that was not prepared for it.
    """
    import torch

    core = core_model(model)
    labels = batch["labels"]
    if core.config.is_encoder_decoder:
        row, position = (labels != IGNORED).nonzero(as_tuple=True)
        targets = labels[row, position]
        rows = labels.shape[0]
        total, each = _seq2seq(core, batch, row, position, targets)
    else:
        # The state that scores a token is that of the one before it; first tokens are never scored.
        row, position = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
        targets = labels[row, position + 1]
        total, each = _causal(core, batch, row, position, targets)
        rows = labels.shape[0]
        if "row_lengths" in batch:
            lengths = batch["row_lengths"]
            rows = lengths.shape[0]
            row = torch.repeat_interleave(torch.arange(rows, device=lengths.device), lengths)[position]
    sums = torch.zeros(rows, dtype=torch.float32, device=each.device).index_add_(0, row.to(each.device), each)
    tokens = torch.bincount(row, minlength=rows)
    items = targets.numel() if num_items is None else num_items
    items = items.to(total.device) if isinstance(items, torch.Tensor) else items
    return RowLosses(total / (items.clamp(min=1) if isinstance(items, torch.Tensor) else max(items, 1)), sums, tokens)


def _causal(core: Model, batch: JsonObject, row: Tensor, position: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    flat = "row_lengths" in batch
    if flat and core.config._attn_implementation != ROWS:
        raise UsageError(
            f"rows lie end to end, but attention is {core.config._attn_implementation!r}, which would let them see "
            "each other; call prepare_model first, or collate with flat=False"
        )
    inputs: dict[str, Any] = {"input_ids": batch["input_ids"], "use_cache": False}
    if flat:
        inputs |= {"attention_mask": row_mask(batch["row_lengths"].tolist()), "position_ids": batch["position_ids"]}
    else:
        inputs |= {"attention_mask": batch["attention_mask"]}
    head = core.get_output_embeddings()
    if core.config.model_type in PLAIN_HEADS and _is_plain(head):
        hidden = core.base_model(**inputs).last_hidden_state[row, position]
        return head_losses(head, hidden, targets)
    if "logits_to_keep" in inspect.signature(core.forward).parameters:
        kept, column = position.unique(return_inverse=True)
        logits = core(**inputs, logits_to_keep=kept).logits[row, column]
    else:
        logits = core(**inputs).logits[row, position]
    return logits_losses(logits, targets.to(logits.device))


def _seq2seq(core: Model, batch: JsonObject, row: object, position: object, targets: Tensor) -> tuple[Tensor, Tensor]:
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    head = core.get_output_embeddings()
    shifted = core.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
    if core.config.model_type in SCALED_HEADS and _is_plain(head):
        encoded = core.get_encoder()(**inputs).last_hidden_state
        hidden = core.get_decoder()(
            input_ids=shifted,
            encoder_hidden_states=encoded,
            encoder_attention_mask=inputs["attention_mask"],
            use_cache=False,
        ).last_hidden_state[row, position]
        if getattr(core.config, "scale_decoder_outputs", core.config.tie_word_embeddings):
            hidden = hidden * core.model_dim**-0.5
        return head_losses(head, hidden, targets)
    logits = core(**inputs, decoder_input_ids=shifted, use_cache=False).logits[row, position]
    return logits_losses(logits, targets.to(logits.device))


def _is_plain(head: Model) -> bool:
    """Whether a head is a product and nothing else: no adapter on it, no quantised weights, no copy that is saved."""
    import torch

    return type(head) is torch.nn.Linear and not head._forward_hooks and not head._forward_pre_hooks
