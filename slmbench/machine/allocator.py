"""How this process' allocator treats what is freed: the one place that tells glibc, anew for every phase of work."""

from __future__ import annotations

import contextlib
import ctypes
import os
from enum import Enum

# glibc's numbers of the settings, `mallopt(3)`.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_OWN = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_"}


class Freed(Enum):
    """What becomes of freed memory. The value: bytes from which a block is a mapping of its own, and goes back at once.

    KEPT: for speed. Up to 64 MiB that are free stay, where glibc would give them back after every layer and take them
    again for the next one, page by page: an eighth of a pass's time on a CPU. It is where glibc's own adjusting ends.
    GIVEN_BACK: for little memory. glibc keeps tensors of up to 32 MB in its heap, and a layer's passing ones leave
    holes there between those that stay: checkpointing or a packed base, which make many of them, then take more than
    they save. It costs time, as fresh memory comes as zeros: a few tenths of a second for each GB of a step.
    """

    KEPT = 32 << 20
    GIVEN_BACK = 1 << 20


_TRIM_BYTES = 64 << 20


def treat_freed(memory: Freed) -> bool:
    """From now on freed memory is treated so, whatever a phase before has asked for.

    Returns False, and changes nothing, without glibc and where the person's environment variables set these two.
    """
    if _OWN & os.environ.keys() or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    with contextlib.suppress(OSError, AttributeError, TypeError):
        set_option = ctypes.CDLL(None).mallopt
        return bool(set_option(_MMAP_THRESHOLD, memory.value)) and bool(set_option(_TRIM_THRESHOLD, _TRIM_BYTES))
    return False


def give_back_freed() -> None:
    """Gives back what is freed now, and what the allocator kept of it (glibc): Python's garbage and a GPU's included.

    Between two phases of work, where the next one needs the memory, and where its peak is measured from here.
    """
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
