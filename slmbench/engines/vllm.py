"""vLLM, through lm-eval's own backend for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmbench.registry import engine

if TYPE_CHECKING:
    from slmbench.engines.options import EngineOptions
    from slmbench.engines.protocol import Engine
    from slmbench.models import LoadedModel


# vLLM makes its own batches of what it is given; what it was given at once is journaled at once.
@engine(
    "vllm",
    summary="lm-eval's vLLM backend, adapters by LoRA request; for GPUs, and `slmbench[vllm]` has to be installed.",
    version="1",
    auto_batch=512,
    apart=True,
    needs={
        "vllm>=0.32": "on Linux with a GPU `pip install 'slmbench[vllm]'`, without constraints.txt and in an "
        "environment of its own, as vLLM asks for its own torch and transformers; or take --engine shared"
    },
)
def vllm(loaded: LoadedModel, options: EngineOptions, seed: int) -> Engine:
    """vLLM over a model's files. seed: a drawn text depends on it, the item, the prompt and the sample."""
    from slmbench.engines.vllm_batches import VLLMBatches

    return VLLMBatches(loaded, int(options.rows), seed)
