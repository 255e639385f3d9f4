"""Which engine computes, and how: the part of an evaluation's options that an engine is made with."""

from __future__ import annotations

import math

from attrs import frozen

from slmbench.engines import engine_names, load_engine
from slmbench.errors import UsageError, did_you_mean

AUTO = "auto"


@frozen
class EngineOptions:
    """How requests are computed. name: of an engine: `shared`, ours, or `hf`, lm-eval's own.

    batch: how many rows' memory may be taken; `auto` for what is free. kv_budget_bytes: of shared prefixes, held at
    most; None for what plain batching's own cache would take. latency: one item after another, each alone.
    Raises UsageError for what doesn't go together.
    """

    name: str = "shared"
    batch: int | str = AUTO
    kv_budget_bytes: float | None = None
    latency: bool = False

    def __attrs_post_init__(self) -> None:
        if self.name not in (known := engine_names()):
            raise UsageError(f"no engine {self.name!r}{did_you_mean(self.name, known)}")
        if self.batch != AUTO and (type(self.batch) is not int or self.batch < 1):
            raise UsageError(f"batch is {self.batch!r}; give a number from 1 on, or auto")
        told = (("kv_budget", self.kv_budget_bytes is not None), ("latency", self.latency))
        given = [name for name, is_given in told if is_given]
        if not set(given) <= set(load_engine(self.name).facts.get("options", ())):
            able = [name for name in known if set(given) <= set(load_engine(name).facts.get("options", ()))]
            others = " and ".join(f"`{name}`" for name in able)
            raise UsageError(
                f"{' and '.join(given)}: only the engine{'s' * (len(able) > 1)} {others} know{'s' * (len(able) == 1)} "
                f"it; leave it out, or take {'that engine' if len(able) == 1 else 'one of them'}"
            )
        if self.kv_budget_bytes is not None and not 0 <= self.kv_budget_bytes < math.inf:
            raise UsageError(f"kv_budget is {self.kv_budget_bytes:g} bytes; give a number from 0 on")

    @property
    def rows(self) -> int | str:
        """The batch as the engine takes it: `auto` is a number for one that can't find it."""
        return load_engine(self.name).facts.get("auto_batch", AUTO) if self.batch == AUTO else self.batch

    @property
    def version(self) -> str:
        """Its name with the versions that its numbers depend on."""
        import lm_eval
        import torch
        import transformers

        libraries = f"lm-eval-{lm_eval.__version__}/transformers-{transformers.__version__}/torch-{torch.__version__}"
        return f"{self.name}/{libraries}"
