"""Where things are: bundled declarations, the user's own folders, mirrors. Standard library alone."""

from __future__ import annotations

import os

MODELS = "models"
"""The folder of a mirror that holds models."""


def package_dir() -> str:
    """The folder of the installed package."""
    return os.path.dirname(os.path.abspath(__file__))


def bundled_root() -> str:
    """The folder that holds the bundled `registry/` and `tasks/`.

    In a checkout these are at its top; an editable install leaves a stale copy behind, so the checkout wins.
    """
    package = package_dir()
    top = os.path.dirname(package)
    if os.path.isfile(os.path.join(top, "pyproject.toml")) and os.path.isdir(os.path.join(top, "tasks")):
        return top
    return os.path.join(package, "_bundled")


def user_roots() -> list[str]:
    """The folders of `SLMBENCH_PATH`, as given, empty entries left out."""
    return [entry for entry in os.environ.get("SLMBENCH_PATH", "").split(os.pathsep) if entry]


def mirror_dir() -> str | None:
    """The folder of `SLMBENCH_DATA`, or None if it isn't set."""
    return os.environ.get("SLMBENCH_DATA") or None


def model_mirror(mirror: str, hub_id: str) -> str:
    """The folder of a hub's model in a mirror: `models/OWNER--NAME`, as the hub's own cache spells ids."""
    return os.path.join(os.path.abspath(mirror), MODELS, hub_id.replace("/", "--"))


def mirrored_model(hub_id: str) -> str | None:
    """The folder of a hub's model in the mirror of `SLMBENCH_DATA`, or None if it isn't there."""
    mirror = mirror_dir()
    folder = model_mirror(mirror, hub_id) if mirror else ""
    return folder if folder and os.path.isfile(os.path.join(folder, "config.json")) else None


def cache_dir() -> str:
    """The folder for what can be built again: `SLMBENCH_CACHE`, else `slmbench` in the user's cache folder."""
    given = os.environ.get("SLMBENCH_CACHE")
    if given:
        return os.path.abspath(given)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(os.path.abspath(home), "slmbench")


def shown(path: object) -> str:
    """The path as a person would type it from here: relative when it is below the current folder."""
    text = os.fspath(path)  # type: ignore[call-overload]
    try:
        relative = os.path.relpath(text)
    except ValueError:  # Another drive.
        return str(text)
    return relative if not relative.startswith(os.pardir) else str(text)
