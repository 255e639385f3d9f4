"""The shared-prefix engine, by its name on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmbench.registry import engine

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM


@engine(
    "shared",
    summary="Computes what prompts share once, and decodes many answers together; exact, and the default.",
    version="1",
    budgeted=True,
)
def shared() -> type[HFLM]:
    """The class, made when it is asked for: lm_eval and torch take seconds to import."""
    from slmbench.engines.shared_prefix import shared_prefix_class

    return shared_prefix_class()
