"""How requests are computed: engines, a file each, whose function `slmbench.registry.engine` marks."""

from __future__ import annotations

from slmbench.headers import own_headers


def engine_names() -> list[str]:
    """slmbench's own engines, the default first."""
    return sorted((header.name for header in own_headers("engine")), key=lambda name: (name != "shared", name))
