"""Which engine computes, and how: the part of an evaluation's options that an engine is made with."""

from __future__ import annotations

import math

from attrs import field, frozen

from slmbench.engines import engine_names
from slmbench.errors import SlmbenchError, UsageError
from slmbench.registry import Registered, Registry, find

AUTO = "auto"
SETTINGS = {"kv_budget_bytes": "kv_budget", "latency": "latency"}
"""What only some engines know, by the names under which a person gives it."""


@frozen
class EngineOptions:
    """How requests are computed. name: of an engine: `shared`, ours, `hf`, lm-eval's own, or one that plugins bring.

    batch: how many rows' memory may be taken; `auto` for what is free. kv_budget_bytes: of shared prefixes, held at
    most; None for what plain batching's own cache would take. latency: one item after another, each alone. plugins:
    where more engines are registered. Raises UsageError for what doesn't go together.
    """

    name: str = "shared"
    batch: int | str = AUTO
    kv_budget_bytes: float | None = None
    latency: bool = False
    plugins: Registry | None = field(default=None, eq=False, repr=False)
    registered: Registered = field(init=False, eq=False, repr=False)

    @registered.default
    def _registered(self) -> Registered:
        return find("engine", self.name, self.plugins)

    def __attrs_post_init__(self) -> None:
        if self.batch != AUTO and (type(self.batch) is not int or self.batch < 1):
            raise UsageError(f"batch is {self.batch!r}; give a number from 1 on, or auto")
        given = [SETTINGS[key] for key in SETTINGS if getattr(self, key) not in (None, False)]
        if not set(given) <= _known(self.registered):
            plugins = self.plugins or Registry()
            engines = [find("engine", name, plugins) for name in (*engine_names(), *plugins.names("engine"))]
            able = [f"`{one.name}`" for one in engines if set(given) <= _known(one)]
            if len(able) == 1:
                said = f"only the engine {able[0]} knows it; leave it out, or take that engine"
            else:
                said = f"only the engines {', '.join(able)} know it; leave it out, or take one of them"
            raise UsageError(f"{' and '.join(given)}: {said}")
        if self.kv_budget_bytes is not None and not 0 <= self.kv_budget_bytes < math.inf:
            raise UsageError(f"kv_budget is {self.kv_budget_bytes:g} bytes; give a number from 0 on")

    @property
    def rows(self) -> int | str:
        """The batch as the engine takes it: `auto` is a number for one that can't find it."""
        return self.registered.facts.get("auto_batch", AUTO) if self.batch == AUTO else self.batch

    @property
    def version(self) -> str:
        """Its name with the versions that its numbers depend on."""
        import lm_eval
        import torch
        import transformers

        libraries = f"lm-eval-{lm_eval.__version__}/transformers-{transformers.__version__}/torch-{torch.__version__}"
        own = f"{self.name}@{self.registered.version}" if self.registered.plugin else self.name
        return f"{own}/{libraries}"

    def is_its_own(self, error: BaseException) -> bool:
        """Whether an error is a plugin's engine's, and not one that slmbench has words for already."""
        return self.registered.plugin and not isinstance(error, SlmbenchError)


def _known(engine: Registered) -> set[str]:
    return set(engine.facts.get("options", ()))
