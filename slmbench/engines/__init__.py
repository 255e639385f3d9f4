"""How requests are computed: engines, a file each, whose function `slmbench.registry.engine` marks."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module

from slmbench.errors import UsageError, did_you_mean
from slmbench.headers import own_headers
from slmbench.registry import Registered, Registry, marked


def engine_names() -> list[str]:
    """The engines that there are, the default first."""
    return sorted((header.name for header in own_headers("engine")), key=lambda name: (name != "shared", name))


@cache
def load_engine(name: str) -> Registered:
    """The engine of a name; its function gives the class that lm-eval is handed. Raises UsageError without one."""
    header = next((header for header in own_headers("engine") if header.name == name), None)
    if header is None:
        raise UsageError(f"no engine {name!r}{did_you_mean(name, engine_names())}")
    module = import_module(f"slmbench.engines.{os.path.basename(header.path)[:-3]}")
    return Registry(marked(vars(module), header.path, module.__name__, plugin=False)).find("engine", name)
