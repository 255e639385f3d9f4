"""The machine under a run: packages, code and hardware; memory; the allocator."""

from slmbench.machine.accelerator import Accelerator, accelerator, bitsandbytes_libraries
from slmbench.machine.allocator import Freed, give_back_freed, treat_freed
from slmbench.machine.facts import code, code_digest, gpus, hardware, packages, processors, usable_cores
from slmbench.machine.imports import large_imports
from slmbench.machine.memory import (
    available_bytes,
    is_out_of_memory,
    peak_memory_bytes,
    peak_vram_bytes,
    reset_peak_memory,
    resident_bytes,
)

__all__ = [
    "Accelerator",
    "Freed",
    "accelerator",
    "available_bytes",
    "bitsandbytes_libraries",
    "code",
    "code_digest",
    "give_back_freed",
    "gpus",
    "hardware",
    "is_out_of_memory",
    "large_imports",
    "packages",
    "peak_memory_bytes",
    "peak_vram_bytes",
    "processors",
    "reset_peak_memory",
    "resident_bytes",
    "treat_freed",
    "usable_cores",
]
