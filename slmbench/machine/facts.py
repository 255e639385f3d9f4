"""What a run's record says of the code, the packages and the machine behind its numbers."""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata

from slmbench.paths import bundled_root, package_dir
from slmbench.values import JsonObject

PACKAGES = ("torch", "transformers", "peft", "trl", "lm-eval", "datasets", "tokenizers", "bitsandbytes", "vllm")

# NVIDIA's driver on a machine, on one of Tegra, through Windows; AMD's.
_GPU_SIGNS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu", "/dev/dxg", "/dev/kfd")


def packages() -> dict[str, str]:
    """name -> version of the packages that a number may depend on."""
    return dict(_versions(tuple(sys.path)))


@lru_cache(maxsize=4)
def _versions(places: tuple[str, ...]) -> Mapping[str, str]:
    """Of the packages that are found in these places: every run, checkpoint and adapter tells of them."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@lru_cache(maxsize=1)
def code() -> JsonObject:
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
def code_digest() -> str:
    """The sha256 over slmbench's modules and what it declares, names and contents: equal where the same code is."""
    digest = hashlib.sha256()
    for top, folder in ((package_dir(), ""), (bundled_root(), "registry"), (bundled_root(), "tasks")):
        for here, folders, names in os.walk(os.path.join(top, folder)):
            folders[:] = sorted(name for name in folders if not name.startswith((".", "_bundled", "__pycache__")))
            for name in sorted(name for name in names if not name.startswith(".")):
                path = os.path.join(here, name)
                with open(path, "rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
                digest.update(f"{os.path.relpath(path, top)} {content}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def hardware() -> JsonObject:
    """Processor, cores, memory in bytes, and the GPU where torch sees one."""
    import torch

    cpu, gpu = processors()
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "ram_bytes": _ram_bytes(),
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


@lru_cache(maxsize=1)
def processors() -> tuple[str, str | None]:
    """The names of the processor and of the GPU, as `hardware` has them; without torch if it can't see a GPU."""
    # Its import takes seconds. A driver's files are no proof of a GPU that torch sees; their absence is of none.
    if platform.system() != "Linux" or any(map(os.path.exists, _GPU_SIGNS)):
        import torch

        if torch.cuda.is_available():
            return _cpu_name(), torch.cuda.get_device_name(0)
    return _cpu_name(), None


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def gpus(environment: Mapping[str, str], driver: str = "/proc/driver/nvidia/gpus") -> tuple[str, ...]:
    """The NVIDIA GPUs that processes with this environment may use, as CUDA_VISIBLE_DEVICES names them.

    Without torch, whose import takes seconds. driver: the folder in which the driver has one for each GPU.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        named = [part.strip() for part in visible.split(",")]
        # What stands after the first that is none is not seen by CUDA either.
        found = list(itertools.takewhile(lambda part: part not in ("", "-1", "NoDevFiles"), named))
    else:
        found = [str(number) for number in range(len(os.listdir(driver)))] if os.path.isdir(driver) else []
    return tuple(found)
