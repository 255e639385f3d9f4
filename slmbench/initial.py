"""The adapter that a training goes on from, by its place: where that is, and what tells it from others."""

from __future__ import annotations

import os

from slmbench.files import file_sha256
from slmbench.schema import InitialAdapterSpec

_FILES = ("adapter_model.safetensors", "adapter_config.json")


def initial_folder(initial: InitialAdapterSpec, recipe: str, place: str = "") -> str:
    """The folder of what is gone on from. recipe: the recipe's file; place: where that recipe's adapters are.

    A path that isn't whole is looked up beside the recipe's file, then from the working folder.
    """
    if initial.adapter is not None:
        return os.path.join(place, initial.adapter)
    beside = os.path.normpath(os.path.join(os.path.dirname(recipe), str(initial.path)))
    return beside if os.path.isdir(beside) else os.path.normpath(str(initial.path))


def files_sha256(folder: str) -> list[str | None]:
    """Of an adapter's weights and of its config, None of one that isn't there: whoever trains says what is wrong."""
    found: list[str | None] = []
    for name in _FILES:
        try:
            found.append(file_sha256(os.path.join(folder, name)))
        except OSError:
            found.append(None)
    return found
