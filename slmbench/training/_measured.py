"""The memory that a training took, over all its attempts."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from slmbench.machine import peak_memory_bytes, peak_vram_bytes


@frozen
class PeakMemory:
    """found: first_step_bytes, peak_bytes (of the GPU where there is one, else of the process), peak_ram_bytes."""

    found: dict[str, int] = field(factory=dict)

    def note(self) -> None:
        """Takes what this process has reached; the first time it is that of a first step."""
        ram = peak_memory_bytes()
        self.add({"peak_bytes": peak_vram_bytes() or ram, "peak_ram_bytes": ram})
        self.found.setdefault("first_step_bytes", self.found["peak_bytes"])

    def add(self, earlier: Mapping[str, int]) -> None:
        """Takes what an earlier attempt had found: the first step is the first one's, a peak that of all."""
        for key, value in earlier.items():
            self.found[key] = value if key == "first_step_bytes" else max(value, self.found.get(key, 0))
