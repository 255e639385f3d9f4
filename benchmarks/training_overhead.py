"""How long a training takes to begin, and what its checks and curves cost of one of ten minutes.

    SLMBENCH_DATA=mirror python benchmarks/training_overhead.py

The model and the recipe of training_speed.py: SmolLM2-135M's geometry, 6 layers, float32, the mirror's 400 GSM8K rows,
batch 8. A fresh process trains it: from its start to the beginning of its first step is the start. What the curves take
of a step is timed around every call that they make; parity and contamination are run once a training.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

START_LIMIT_S = 15
OVERHEAD_LIMIT_PERCENT = 3
TRAINING_S = 600
STEPS = 12


def child(folder: Path, started: float) -> None:
    """Trains, and writes what was timed into `<folder>/times.json`. started: the process', in seconds since 1970."""
    from training_speed import recipe_of

    from slmbench.catalog import default_catalog
    from slmbench.models import resolve_model
    from slmbench.training import _trainer, train_adapter
    from slmbench.workflow.quiet import quiet_libraries

    quiet_libraries()
    spent = 0.0
    first: list[float] = []

    def timed(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal spent
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent += time.perf_counter() - begun

        return call

    begin = _trainer._take_losses
    _trainer._take_losses = timed(begin)
    _trainer.Curves.log = timed(_trainer.Curves.log)
    _trainer.line = timed(_trainer.line)
    real = _trainer.row_losses

    def first_seen(*args: Any, **kwargs: Any) -> Any:
        first.append(time.time())
        return real(*args, **kwargs)

    _trainer.row_losses = first_seen
    catalog = default_catalog()
    recipe = recipe_of(folder, 6, "float32").with_overrides([f"optim.steps={STEPS}"])
    source = resolve_model(recipe.spec.model, catalog)
    made = train_adapter(recipe, "gsm8k", catalog, source, out=str(folder / "out"))
    record = json.loads(Path(made, "training.json").read_text(encoding="utf-8"))
    times = {
        "start_s": first[0] - started,
        "curves_share": spent / record["seconds"]["steps"],
        "rows": record["tasks"]["gsm8k"]["rows"],
        "seconds": record["seconds"],
    }
    (folder / "times.json").write_text(json.dumps(times))


def main() -> None:
    if len(sys.argv) == 3:
        child(Path(sys.argv[1]), float(sys.argv[2]))
        return
    from training_speed import build_models

    mirror = os.environ.get("SLMBENCH_DATA")
    if not mirror:
        sys.exit("set SLMBENCH_DATA to a mirror with gsm8k")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_models(folder, Path(mirror))
        command = [sys.executable, str(Path(__file__).resolve()), str(folder), repr(time.time())]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parent)
        times = json.loads((folder / "times.json").read_text())
    phases = times["seconds"]
    before = ", ".join(f"{phase} {s:.1f}" for phase, s in phases.items() if phase not in ("steps", "save") and s > 0.05)
    print(f"start_s: {times['start_s']:.1f} (limit {START_LIMIT_S}; {times['rows']} rows; {before})")
    checks = phases["parity"] + phases["contamination"]
    percent = 100 * (times["curves_share"] + checks / TRAINING_S)
    print(
        f"overhead_percent: {percent:.2f} of {TRAINING_S} s (limit {OVERHEAD_LIMIT_PERCENT}; curves "
        f"{100 * times['curves_share']:.3f}% of the steps, parity {phases['parity']:.2f} s, contamination "
        f"{phases['contamination']:.2f} s)"
    )
    sys.exit(times["start_s"] > START_LIMIT_S or percent > OVERHEAD_LIMIT_PERCENT)


if __name__ == "__main__":
    main()
