"""A model whose forward is the loss, for what gathers gradients of several processes: it hooks the outer forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmbench.training._forward import row_losses
from slmbench.values import JsonObject, Model, Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator


def scored_together(model: Model, accelerator: Accelerator) -> Model:
    """A module that takes (batch, tokens of the step) and returns (loss, sums, tokens), see `RowLosses`.

    Each process gives it its share of a micro-batch, which may have no row; after backward all have the gradient of
    the mean over the processes. Accelerate makes torch's DistributedDataParallel of it, as every process holds the
    whole model: a small model's weights fit, and sharded ones would be sent around at every layer.
    """
    import torch

    class Scored(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, batch: JsonObject, num_items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            if not batch["task_id"].numel():
                # Every process has to come to a gradient of every tensor, as the others wait for it.
                none = sum((p.sum() * 0.0 for p in self.model.parameters() if p.requires_grad), torch.zeros(()))
                return none, batch["task_id"].float(), batch["task_id"]
            losses = row_losses(self.model, batch, num_items)
            return losses.loss, losses.sums, losses.tokens

    scored = Scored()
    # The frozen base is each process' own, read from the same file: it isn't sent around.
    frozen = [name for name, p in scored.named_parameters() if not p.requires_grad]
    buffers = [name for name, _ in scored.named_buffers()]
    torch.nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(scored, frozen + buffers)
    return accelerator.prepare_model(scored)
