"""Imports of large packages."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def large_imports() -> Iterator[None]:
    """Keeps Python from looking for garbage while torch and what is built on it are imported.

    They make millions of objects that stay, and Python goes through all that are there again and again: a sixth of
    their time (2.4 of 14 seconds of a CPU for all that a training and an evaluation import).
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()
