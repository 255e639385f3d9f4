"""What a run's record says of the code, the packages and the machine behind its numbers."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from slmbench.paths import bundled_root, package_dir

PACKAGES = ("torch", "transformers", "peft", "trl", "lm-eval", "datasets", "tokenizers", "bitsandbytes")
CUDA_CONTEXT_BYTES = 500_000_000
"""What CUDA itself takes on a GPU, beside what torch allocates there."""


def packages() -> dict[str, str]:
    """name -> version of the packages that a number may depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@lru_cache(maxsize=1)
def code() -> dict[str, Any]:
    """The version of slmbench; in a checkout also its commit and whether anything differs from it."""
    try:
        version = metadata.version("slmbench")
    except metadata.PackageNotFoundError:
        version = "unknown"
    top = os.path.dirname(package_dir())
    if bundled_root() != top:
        return {"version": version, "commit": None, "dirty": None}

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", top, *args], capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    commit = git("rev-parse", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no") if commit else None
    return {"version": version, "commit": commit, "dirty": None if changed is None else bool(changed)}


@lru_cache(maxsize=1)
def hardware() -> dict[str, Any]:
    """Processor, cores, memory in bytes, and the GPU where torch sees one."""
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "ram_bytes": _ram_bytes(),
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


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
    """The largest resident size of this process since `reset_peak_memory`, in bytes; 0 where it can't be known."""
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

    A container's limit counts, as cgroup v1 and v2 tell it. None where it can't be known.
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


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.lower().startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _ram_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
