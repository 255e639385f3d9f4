"""How the process' allocator treats what is freed, where a recipe asks for little memory rather than for speed."""

from __future__ import annotations

import contextlib
import ctypes

from slmbench.schema import OptimSpec, RecipeSpec

# glibc's numbers of the settings.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE_BYTES = 1 << 20
_TRIM_BYTES = 64 << 20


def spares_memory(spec: RecipeSpec, optim: OptimSpec) -> bool:
    """Whether a recipe trades time for memory: it checkpoints, or packs its base."""
    return optim.gradient_checkpointing or spec.method == "qlora"


def give_back_large_blocks() -> bool:
    """From now on this process gives every large tensor's memory back when it is freed; returns whether it can (glibc).

    glibc would keep tensors of up to 32 MB in its heap, and a layer's passing ones leave holes there between those that
    stay: checkpointing or a packed base, which make many of them, then take more than they save. It costs time, as
    fresh memory comes as zeros: a few tenths of a second for each GB that a step goes through.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        set_option = ctypes.CDLL(None).mallopt
        return bool(set_option(_MMAP_THRESHOLD, _LARGE_BYTES) and set_option(_TRIM_THRESHOLD, _TRIM_BYTES))
    return False


def give_back_freed() -> None:
    """Gives back what this process has freed and its allocator kept (glibc; elsewhere nothing happens)."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
