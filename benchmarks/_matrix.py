"""What the benchmarks of `slmbench matrix` share: adapters on nano, what a process took, how idle the machine is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

ADAPTER_RANK = 2


@frozen
class Measured:
    """What a process took, and what it wrote to stdout."""

    seconds: float
    cpu_s: float
    peak_mb: float
    said: str

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s ({self.cpu_s:.2f} s CPU), {self.peak_mb:.0f} MB"


def slmbench(*arguments: str) -> list[str]:
    """The command line of this tree."""
    return [sys.executable, "-m", "slmbench", *arguments]


def environment() -> dict[str, str]:
    """That of a command as people run it: modules are kept as bytecode, and nothing is asked of a network."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "HF_HUB_OFFLINE": "1"}


def measured(command: Sequence[str], env: dict[str, str], log: Path) -> Measured:
    """A process from its start to its end, its workers' CPU included. Its stderr goes to `log`. Ends all if it fails.

    A child's peak memory is never less than its parent's when it was made, so whoever measures stays small.
    """
    with log.open("wb") as errors:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=env)
        assert process.stdout is not None
        said = process.stdout.read().decode()
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}: {log.read_text()[-2000:]}")
    return Measured(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000, said)


def best(rounds: int, command: Sequence[str], env: dict[str, str], log: Path) -> tuple[Measured, float]:
    """(the fastest of some rounds, the seconds of the slowest)."""
    found = [measured(command, env, log) for _ in range(rounds)]
    return min(found, key=lambda one: one.seconds), max(one.seconds for one in found)


def make_adapters(folder: Path, count: int) -> None:
    """Adapters on nano's query projections as peft writes them, each with other numbers. Imports torch."""
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file, save_file

    from slmbench.catalog import default_catalog
    from slmbench.models import load_model, resolve_model

    first = folder / "a-000"
    model = load_model(resolve_model("nano", default_catalog())).model
    get_peft_model(model, LoraConfig(r=ADAPTER_RANK, target_modules=["q_proj"])).save_pretrained(first)
    config = first / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "nano"}))
    weights = load_file(first / "adapter_model.safetensors")
    drawn = torch.Generator().manual_seed(0)
    for number in range(count):
        own = folder / f"a-{number:03}"
        if number:
            shutil.copytree(first, own)
        # Not zero, as LoRA's B is before training: an adapter that does nothing would prove nothing.
        made = {name: torch.randn(value.shape, generator=drawn) * 0.05 for name, value in weights.items()}
        save_file(made, own / "adapter_model.safetensors", metadata={"format": "pt"})


def idle_share(seconds: float = 2.0) -> float:
    """The share of this machine's cores that nobody used for so long, 0 to 1; of Linux."""
    before = _ticks()
    time.sleep(seconds)
    idle, whole = (now - then for now, then in zip(_ticks(), before, strict=True))
    return idle / whole if whole else 0.0


def _ticks() -> tuple[int, int]:
    """(idle ones, all) of all cores since the machine was started."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    counts = [int(word) for word in words]  # user nice system idle iowait irq softirq steal
    return counts[3] + counts[4], sum(counts)
