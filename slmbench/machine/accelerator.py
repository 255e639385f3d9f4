"""What torch and bitsandbytes can do on this machine, found without loading a model."""

from __future__ import annotations

import importlib.util
import os

from attrs import frozen

_NATIVE_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")
"""Flags of /proc/cpuinfo, of x86 and ARM."""


@frozen
class Accelerator:
    """What torch computes on. gpu, gpu_bytes: None without one. cuda: the CUDA (or ROCm) that torch was built for.

    bfloat16: whether it is computed natively there. threads: torch's own number.
    """

    torch: str
    gpu: str | None
    gpus: int
    gpu_bytes: int | None
    cuda: str | None
    bfloat16: bool
    threads: int


def accelerator() -> Accelerator:
    """Imports torch and asks it. Raises whatever a broken installation raises."""
    import torch

    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Accelerator(
        str(torch.__version__),
        torch.cuda.get_device_name(0) if n else None,
        n,
        int(torch.cuda.get_device_properties(0).total_memory) if n else None,
        torch.version.cuda or getattr(torch.version, "hip", None),
        bool(torch.cuda.is_bf16_supported()) if n else cpu_has_bfloat16(),
        int(torch.get_num_threads()),
    )


def cpu_has_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16; False where that can't be known."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.lower().startswith(("flags", "features")):
                    return bool(set(line.split()) & set(_NATIVE_BFLOAT16))
    except OSError:
        pass
    return False


def bitsandbytes_libraries() -> list[str] | None:
    """The native libraries that bitsandbytes came with; None if it isn't installed. Importing it takes seconds."""
    spec = importlib.util.find_spec("bitsandbytes")
    if spec is None or spec.origin is None:
        return None
    there = os.listdir(os.path.dirname(spec.origin))
    return sorted(name for name in there if name.startswith("libbitsandbytes_"))
