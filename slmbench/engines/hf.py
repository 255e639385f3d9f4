"""lm-eval's own engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmbench.registry import engine

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM


@engine("hf", summary="lm-eval's own HFLM, in plain batches; what the other is held against.", version="1")
def hf() -> type[HFLM]:
    """The class as lm-eval has it."""
    from lm_eval.models.huggingface import HFLM

    return HFLM
