"""Which engine computes, and how: the part of an evaluation's options that an engine is made with."""

from __future__ import annotations

import math
from importlib import metadata
from typing import TYPE_CHECKING

from attrs import field, frozen

from slmbench.engines import engine_names
from slmbench.engines.server_address import ServerOptions
from slmbench.errors import SlmbenchError, UsageError
from slmbench.registry import Registered, Registry, find

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

AUTO = "auto"
SETTINGS = {"kv_budget_bytes": "kv_budget", "latency": "latency", "server": "url"}
"""What only some engines know, by the names under which a person gives it."""


@frozen
class EngineOptions:
    """How requests are computed. name: of an engine: `shared`, ours, `hf` or `vllm`, lm-eval's, or one that plugins
    bring.

    batch: how many rows' memory may be taken; `auto` for what is free. kv_budget_bytes: of shared prefixes, held at
    most; None for what plain batching's own cache would take. latency: one item after another, each alone. server:
    which one is asked, if any. plugins: where more engines are registered. Raises UsageError for what doesn't go
    together.
    """

    name: str = "shared"
    batch: int | str = AUTO
    kv_budget_bytes: float | None = None
    latency: bool = False
    server: ServerOptions = field(factory=ServerOptions)
    plugins: Registry | None = field(default=None, eq=False, repr=False)
    registered: Registered = field(init=False, eq=False, repr=False)

    @registered.default
    def _registered(self) -> Registered:
        return find("engine", self.name, self.plugins)

    def __attrs_post_init__(self) -> None:
        if self.batch != AUTO and (type(self.batch) is not int or self.batch < 1):
            raise UsageError(f"batch is {self.batch!r}; give a number from 1 on, or auto")
        given = [SETTINGS[key] for key in SETTINGS if getattr(self, key) not in (None, False, ServerOptions())]
        if not set(given) <= _known(self.registered):
            plugins = self.plugins or Registry()
            engines = [find("engine", name, plugins) for name in (*engine_names(), *plugins.names("engine"))]
            able = [f"`{one.name}`" for one in engines if set(given) <= _known(one)]
            if len(able) == 1:
                said = f"only the engine {able[0]} knows it; leave it out, or take that engine"
            else:
                said = f"only the engines {', '.join(able)} know it; leave it out, or take one of them"
            flags = self.server.given if "url" in given else []
            told = [*(name for name in given if name != "url"), *(flag.removeprefix("--") for flag in flags)]
            raise UsageError(f"{' and '.join(told)}: {said}")
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
        return "/".join([own, libraries, *(f"{name}-{there}" for name, there, _, _ in self._needs() if there)])

    @property
    def apart(self) -> str:
        """What the engine reads itself in place of a model in memory: `files`, `gguf`; '' if nothing.

        `served` of one that reads none, and asks a server.
        """
        said = self.registered.facts.get("apart")
        return "files" if said is True else str(said or "")

    def require(self) -> None:
        """Raises UsageError, with how to have it, if a package that the engine needs isn't installed or is too old."""
        for name, there, asked, how in self._needs():
            if there is None:
                raise UsageError(f"engine {self.name!r} needs {name}, which isn't installed: {how}")
            if asked and not asked.contains(there, prereleases=True):
                raise UsageError(f"engine {self.name!r} needs {name}{asked}, and here is {there}: {how}")

    def _needs(self) -> list[tuple[str, str | None, SpecifierSet, str]]:
        """(package, its version here or None, which ones will do, how to have it) of each that the engine needs."""
        from packaging.requirements import Requirement

        found = []
        for text, how in self.registered.facts.get("needs", {}).items():
            wanted = Requirement(text)
            try:
                there: str | None = metadata.version(wanted.name)
            except metadata.PackageNotFoundError:
                there = None
            found.append((wanted.name, there, wanted.specifier, how))
        return found

    def is_its_own(self, error: BaseException) -> bool:
        """Whether an error is a plugin's engine's, and not one that slmbench has words for already."""
        return self.registered.plugin and not isinstance(error, SlmbenchError)


def _known(engine: Registered) -> set[str]:
    return set(engine.facts.get("options", ()))
