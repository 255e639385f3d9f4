"""lm-eval's door to the engine that computes what requests share once: `SharedPrefixLM`, a subclass of its HFLM.

Registered with lm-eval as `slmbench` when `slmbench.evaluation` is imported. `python -m
slmbench.evaluation.shared_prefix` is lm-eval's own command line with it registered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM

    class SharedPrefixLM(HFLM):
        """See `slmbench.engines.shared_prefix`."""


__all__ = ["SharedPrefixLM", "register"]
NAME = "slmbench"


def __getattr__(name: str) -> Any:
    if name != "SharedPrefixLM":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from slmbench.engines.shared_prefix import shared_prefix_class

    return shared_prefix_class()


def register() -> None:
    """Tells lm-eval of `SharedPrefixLM`, which is made only when it is asked for. Costs some hundredths of a second."""
    # lm-eval fills its registry when it is first asked for a model, but only if it is empty.
    import lm_eval.models  # noqa: F401
    from lm_eval.api.registry import model_registry

    if NAME not in model_registry:
        model_registry.register(NAME, target=f"{__name__}:SharedPrefixLM")
