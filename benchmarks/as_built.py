"""The variants `as-built` of the published projects' recipes, whole on their models' twins, offline: seconds of each.

    python benchmarks/as_built.py

Each is a process of its own, from a cold start to the page: training, evaluation of base and adapters, leaderboard. No
mirror and no network: golden rows stand in for data.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from slmbench.catalog import default_catalog
from slmbench.recipe import load_recipe

SECONDS = 60
VARIANT = "as-built"


def main() -> None:
    catalog = default_catalog()
    names = [
        name
        for name in catalog.files("recipes")
        if not name.endswith("-merge") and VARIANT in load_recipe(name, catalog).spec.variants
    ]
    environment = {key: value for key, value in os.environ.items() if key not in ("SLMBENCH_DATA", "SLMBENCH_PATH")}
    kept = True
    for name in names:
        with tempfile.TemporaryDirectory() as place:
            command = [sys.executable, "-m", "slmbench", "run", name, "--variant", VARIANT, "--twin", "--out", place]
            begun = time.perf_counter()
            done = subprocess.run(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment | {"HF_HUB_OFFLINE": "1"}
            )
            seconds = time.perf_counter() - begun
            if done.returncode:
                sys.exit(f"{name}: exit code {done.returncode}: {done.stderr.decode()[-500:]}")
            adapters = len(list(Path(place).glob("adapters/*/training.json")))
            runs = len(list(Path(place).glob("runs/*/run.json")))
        kept &= seconds < SECONDS
        print(f"{name:<26} {adapters} adapters, {runs:>2} runs  {seconds:5.1f} s")
    print(f"each in less than {SECONDS} s{'' if kept else ': NOT KEPT'}")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
