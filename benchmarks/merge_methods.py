"""Memory and time of each merge method on one tensor, and its time beside mergekit 0.1.5's.

python benchmarks/merge_methods.py [memory|time]

Memory: anonymous memory that a merge adds at its peak, sampled each millisecond, on the largest tensor of a T5-small
(32,128 x 512, 66 MB in float32), its inputs mapped from files. Time: three models of 4,194,304 numbers in memory, one
thread, the best of three. Exits with 1 if a method adds more than twice the tensor and 64 MB, or TIES takes more than
0.3 of the time of mergekit's.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from slmbench.merging import load_method, merge_one, parameters_of

SHAPE = (32_128, 512)
COUNTS = (2, 8, 16)
METHODS = ("linear", "soup", "slerp", "task_arithmetic", "ties", "dare_linear", "dare_ties")
PEERS: dict[str, tuple[str, dict[str, object]]] = {
    "linear": ("linear", {"weight": 1.0}),
    "slerp": ("slerp", {"t": 0.5}),
    "task_arithmetic": ("task_arithmetic", {"weight": 1.0}),
    "ties": ("ties", {"weight": 1.0, "density": 0.2}),
    "dare_linear": ("dare_linear", {"weight": 1.0, "density": 0.5}),
    "dare_ties": ("dare_ties", {"weight": 1.0, "density": 0.5}),
}


def anonymous_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


class Peak:
    """The largest anonymous memory while it is open."""

    def __enter__(self) -> Peak:
        self.before = self.most = anonymous_bytes()
        self.open = True
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while self.open:
            self.most = max(self.most, anonymous_bytes())
            time.sleep(0.001)

    def __exit__(self, *_: object) -> None:
        self.open = False
        self.thread.join()
        self.added = self.most - self.before


def merge(method: str, tensors: list[torch.Tensor], base: torch.Tensor, told: dict[str, object]) -> torch.Tensor:
    return merge_one(load_method(method), tensors, base=base, weights=[1.0] * len(tensors), parameters=told).tensor


def memory(method: str, count: int, folder: str) -> None:
    """Prints what one merge adds, in a process of its own."""
    n = SHAPE[0] * SHAPE[1]
    maps = [torch.from_file(f"{folder}/{i}", shared=True, size=n).view(SHAPE) for i in range(count + 1)]
    merge(method, [torch.ones(9)] * (2 if method == "slerp" else count), torch.zeros(9), {})  # What torch loads once.
    with Peak() as peak:
        merge(method, maps[1 : 3 if method == "slerp" else None], maps[0], {})
    print(peak.added)


def best(run: Any) -> float:
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return min(times)


def all_memory() -> list[str]:
    """Prints the table of memory; what is too much."""
    bad = []
    size = 4 * SHAPE[0] * SHAPE[1]
    most = 2 * size + 64_000_000
    print(
        f"Anonymous memory that a merge of one tensor of {size / 1e6:.0f} MB adds, in MB (allowed: {most / 1e6:.0f}):\n"
    )
    print(f"| method | {' | '.join(f'{count} models' for count in COUNTS)} |\n| --- |{' --- |' * len(COUNTS)}")
    with tempfile.TemporaryDirectory() as folder:
        base = torch.randn(SHAPE) * 0.02
        for i in range(max(COUNTS) + 1):
            (base + (i > 0) * 1e-3 * torch.randn(SHAPE)).numpy().tofile(f"{folder}/{i}")
        for method in METHODS:
            added = []
            for count in COUNTS if method != "slerp" else COUNTS[:1]:
                command = [sys.executable, __file__, method, str(count), folder]
                added.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
            print(f"| {method} | {' | '.join(f'{one / 1e6:.0f}' for one in added)} |", flush=True)
            bad += [f"{method} adds {max(added) / 1e6:.0f} MB"] if max(added) > most else []
    return bad


def all_times() -> list[str]:
    """Prints the table of times; what takes too long."""
    from mergekit.merge_methods.api import merge_state_dicts

    bad = []
    print("\nSeconds for three models (slerp: two) of 4,194,304 numbers, float32, one thread:\n")
    print("| method | slmbench | mergekit 0.1.5 | ratio |\n| --- | --- | --- | --- |")
    base = torch.randn(2048, 2048) * 0.02
    models = [base + 1e-3 * torch.randn_like(base) for _ in range(3)]
    for method, (name, told) in PEERS.items():
        some = models[:2] if method == "slerp" else models
        needs = method not in ("linear", "slerp")
        every = {**({"base": {"w": base}} if needs else {}), **{i: {"w": one} for i, one in enumerate(some)}}
        key: Any = "base" if needs else 0 if method == "slerp" else None
        own = {name: told[name] for name in told if name in parameters_of(load_method(method))}
        ours = best(partial(merge, method, some, base, own))
        peer = best(partial(merge_state_dicts, every, name, base=key, parameters=told, dtype=torch.float32))
        print(f"| {method} | {ours:.3f} | {peer:.3f} | {ours / peer:.2f} |", flush=True)
        bad += [f"ties takes {ours / peer:.2f} of mergekit's time"] if method == "ties" and ours > 0.3 * peer else []
    return bad


def main() -> None:
    what, *of = sys.argv[1:] or ["all"]
    if of:
        memory(what, int(of[0]), of[1])
        return
    torch.set_num_threads(1)
    torch.manual_seed(0)
    bad = all_memory() if what in ("all", "memory") else []
    bad += all_times() if what in ("all", "time") else []
    sys.exit("; ".join(bad))


if __name__ == "__main__":
    main()
