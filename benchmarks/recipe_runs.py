"""`slmbench run` of a recipe in a process of its own, timed, and its leaderboard as lines: what benchmarks share."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from slmbench.models import ModelSource

THREADS = 2


@frozen
class TimedRun:
    """A finished run. seconds: by the clock; cpu_s: of all its processes. board: its leaderboard.json."""

    recipe: str
    out: Path
    seconds: float
    cpu_s: float
    board: dict[str, Any]

    def print_scores(self) -> None:
        print(f"slmbench run {self.recipe}")
        print("\n".join(lines_of(self.board)))

    def exit_by_minutes(self, most: float) -> None:
        """Prints what it took, and ends with 1 if that is more than so many minutes."""
        minutes, kept = self.seconds / 60, self.seconds <= most * 60
        print(f"CPU: {self.cpu_s:.0f} s, {THREADS} threads")
        print(f"minutes by the clock: {minutes:.1f} (at most {most:g}){'' if kept else ' NOT KEPT'}")
        sys.exit(0 if kept else 1)


def need_real_parts() -> None:
    """Ends with a message where the mirror or the real model isn't named."""
    for name in ("SLMBENCH_DATA", "SLMBENCH_SMOLLM2"):
        if not os.environ.get(name):
            sys.exit(f"set {name}")


def run_recipe(recipe: str, out: str | Path, environment: Mapping[str, str] | None = None) -> TimedRun:
    """Runs a recipe with THREADS threads; ends with its exit code in words if it fails."""
    command = [sys.executable, "-m", "slmbench", "run", recipe, "--out", str(out)]
    given = os.environ | {"OMP_NUM_THREADS": str(THREADS)} | dict(environment or {})
    begun = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, env=given, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode:
        sys.exit(f"slmbench run {recipe}: exit code {done.returncode}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    board = json.loads(Path(out, "leaderboard", "leaderboard.json").read_text(encoding="utf-8"))
    return TimedRun(recipe, Path(out), seconds, used.ru_utime + used.ru_stime, board)


def print_file(source: ModelSource) -> None:
    """The GGUF file that a model is of, with its sha256; nothing for another one."""
    if source.file is not None:
        with open(source.file, "rb") as file:
            print(f"{os.path.basename(source.file)}, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}")


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
