"""lm-eval's own engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmbench.registry import engine

if TYPE_CHECKING:
    from slmbench.engines.options import EngineOptions
    from slmbench.engines.protocol import Engine
    from slmbench.models import LoadedModel


# Its `auto` would run the largest window some times over to find a batch.
@engine(
    "hf",
    summary="lm-eval's own HFLM, in plain batches; what the other is held against.",
    version="1",
    auto_batch=32,
)
def hf(loaded: LoadedModel, options: EngineOptions, seed: int) -> Engine:
    """HFLM, a batch at a time. seed: lm-eval's own, of torch's generator, is what texts are drawn with."""
    from slmbench.engines.hflm import hflm_over
    from slmbench.engines.plain import PlainBatches

    return PlainBatches(hflm_over(loaded, options.rows))
