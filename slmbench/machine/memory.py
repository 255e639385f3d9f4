"""Memory of this process and of the machine: peaks, what is left, and whether it ran out."""

from __future__ import annotations

import contextlib
import platform
from pathlib import Path

CUDA_CONTEXT_BYTES = 500_000_000
"""What CUDA itself takes on a GPU, beside what torch allocates there."""


def reset_peak_memory() -> None:
    """Makes `peak_memory_bytes` count from now on, where the system can (Linux); elsewhere it counts from the start."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass
    try:
        import torch

        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
    except ImportError:
        pass


def peak_memory_bytes() -> int:
    """The largest resident size of this process since `reset_peak_memory`, in bytes; 0 if it can't be known."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def peak_vram_bytes() -> int | None:
    """The largest allocation on the GPU since `reset_peak_memory`, in bytes; None without one."""
    import torch

    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else None


def available_bytes(device: str) -> int | None:
    """What may be taken: of a GPU, its free memory less CUDA's own; else this process' and what is free.

    A container's limit counts, as cgroup v1 and v2 tell it. None if it can't be known.
    """
    if device not in ("cpu", "cuda"):
        return None
    if device == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info()
        return max(
            0, int(free + torch.cuda.memory_reserved()) - (0 if torch.cuda.is_initialized() else CUDA_CONTEXT_BYTES)
        )
    try:
        import psutil

        own = int(psutil.Process().memory_info().rss)
        free = int(psutil.virtual_memory().available)
    except (ImportError, OSError):
        return None
    for limit_path, used_path in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # It says "max" where there is no limit.
            limit, used = (int(Path(path).read_text(encoding="ascii")) for path in (limit_path, used_path))
            free = min(free, max(0, limit - used))
    return own + free


def resident_bytes() -> int:
    """The resident size of this process, in bytes."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: torch's on a GPU, its allocator's on a CPU, Python's own."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and ("not enough memory" in said or "can't allocate memory" in said)
