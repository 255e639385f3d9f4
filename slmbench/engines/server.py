"""A server that is running, asked for texts: Ollama, llama.cpp's, vLLM's, or another with OpenAI's completions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmbench.registry import engine

if TYPE_CHECKING:
    from slmbench.engines.options import EngineOptions
    from slmbench.engines.protocol import Engine
    from slmbench.models import LoadedModel


# A batch is how many requests are under way at once: a server on a laptop answers one after another anyway.
@engine(
    "server",
    summary="Ollama, or a server with OpenAI's completions, asked by --url; its weights are taken on its word.",
    version="1",
    auto_batch=4,
    options=("latency", "url"),
    apart="served",
)
def server(loaded: LoadedModel, options: EngineOptions, seed: int) -> Engine:
    """A server that `slmbench.engines.serving.meet` has met. seed: a drawn text depends on it."""
    from slmbench.engines.serving import ServerBatches

    return ServerBatches(loaded, seed, latency=options.latency)
