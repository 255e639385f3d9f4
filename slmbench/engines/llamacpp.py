"""llama.cpp, in this process: a GGUF file as it is, packed as it ships."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmbench.registry import engine

if TYPE_CHECKING:
    from slmbench.engines.options import EngineOptions
    from slmbench.engines.protocol import Engine
    from slmbench.models import LoadedModel


# How many texts are written side by side; each costs a window's keys and values.
@engine(
    "llamacpp",
    summary="llama.cpp over a .gguf file as it ships; `slmbench[llamacpp]` has to be installed.",
    version="1",
    auto_batch=4,
    options=("latency",),
    apart="gguf",
    needs={
        "llama-cpp-python>=0.3.36": "`pip install 'slmbench[llamacpp]'`, which compiles it (docs/edge.md); or take "
        "--engine shared, which unpacks the file's weights"
    },
)
def llamacpp(loaded: LoadedModel, options: EngineOptions, seed: int) -> Engine:
    """llama.cpp over a file's packed weights. seed: a drawn text depends on it, the item, the prompt and the sample."""
    from slmbench.engines.llamacpp_parts import LlamaCpp

    return LlamaCpp(loaded, int(options.rows), seed, latency=options.latency)
