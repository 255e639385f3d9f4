"""The shared-prefix engine, by its name on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmbench.registry import engine

if TYPE_CHECKING:
    from slmbench.engines.options import EngineOptions
    from slmbench.engines.protocol import Engine
    from slmbench.models import LoadedModel


@engine(
    "shared",
    summary="Computes what prompts share once, and decodes many answers together; exact, and the default.",
    version="1",
    options=("kv_budget", "latency"),
)
def shared(loaded: LoadedModel, options: EngineOptions, seed: int) -> Engine:
    """Our engine over HFLM's model, which also computes what can't be shared. seed: of drawn tokens."""
    from slmbench.engines.hflm import hflm_over
    from slmbench.engines.shared_prefix import SharedPrefix

    return SharedPrefix(
        hflm_over(loaded, options.rows), kv_budget_bytes=options.kv_budget_bytes, seed=seed, latency=options.latency
    )
