"""How requests are computed: engines, a file each, whose function `slmbench.registry.engine` marks."""

from __future__ import annotations

from slmbench.errors import UsageError, did_you_mean
from slmbench.headers import own_headers
from slmbench.registry import Registered, own_entry


def engine_names() -> list[str]:
    """The engines that there are, the default first."""
    return sorted((header.name for header in own_headers("engine")), key=lambda name: (name != "shared", name))


def load_engine(name: str) -> Registered:
    """The engine of a name; its function gives the class that lm-eval is handed. Raises UsageError without one."""
    entry = own_entry("engine", name)
    if entry is None:
        raise UsageError(f"no engine {name!r}{did_you_mean(name, engine_names())}")
    return entry
