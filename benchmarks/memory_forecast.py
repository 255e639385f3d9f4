"""The memory that a training is forecast to take, before and after its first step, against what it took.

    SLMBENCH_DATA=mirror python benchmarks/memory_forecast.py [CASE...]

Each case is a training of a few steps in a process of its own: the embedded model and each family's twin, and, with a
mirror, SmolLM2-135M's geometry with random weights; on the mirror's GSM8K rows, else generated ones; batch 8, rank 16.
Forecast: from shapes alone. Calibrated: as the first step corrects it. Measured: the peak of the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from training_speed import build_models

from slmbench.workflow.quiet import quiet_libraries

LIMIT_PERCENT = 15
STEPS = 5
HERE = Path(__file__).parent
# name -> model, settings.
TWINS = {
    "llama twin": ("llama-3.2-1b-instruct", ()),
    "qwen2 twin, dora": ("qwen2.5-0.5b", ("lora.dora=true",)),
    "phi3 twin": ("phi-3.5-mini-instruct", ()),
    "tinyllama twin, qlora": ("tinyllama-1.1b-chat", ("method=qlora",)),
    "smollm2 twin, adamw_8bit": ("smollm2-360m", ("optim.optimizer=adamw_8bit",)),
    "smollm2 twin, full": ("smollm2-360m", ("method=full",)),
    "t5 twin": ("flan-t5-small", ("max_tokens=512",)),
    "t5 twin, qlora": ("flan-t5-small", ("max_tokens=512", "method=qlora")),
    "nano": ("nano", ()),
}
LARGE = {
    "6 layers, float32": (6, ()),
    "6 layers, bfloat16": (6, ("dtype=bfloat16",)),
    "135M, float32": (30, ()),
    "135M, float32, checkpointing": (30, ("optim.gradient_checkpointing=true",)),
    "135M, bfloat16": (30, ("dtype=bfloat16",)),
    "135M, nf4": (30, ("method=qlora",)),
    "135M, float32, packing": (30, ("packing=true", "optim.batch=4", "max_tokens=256")),
}
RECIPE = """\
summary: A few steps.
model: {model}
format: plain
adapters:
  one: {{tasks: [{task}]}}
lora: {{rank: 16, alpha: 32, targets: all-linear}}
optim: {{lr: 2e-4, batch: 8, steps: {steps}, warmup_steps: 0, schedule: constant}}
shots: 0
max_tokens: 1024
seed: 0
evaluation: {{tasks: [{task}]}}
"""


def run_case(name: str, folder: Path) -> dict[str, Any]:
    """One training in this process; training.json's `memory`."""
    from slmbench.catalog import default_catalog
    from slmbench.models import resolve_model
    from slmbench.recipe import load_recipe
    from slmbench.training import train_adapter

    quiet_libraries()
    catalog = default_catalog()
    model, settings = TWINS[name] if name in TWINS else LARGE[name]
    place = str(folder / str(model)) if name in LARGE else str(model)
    task = "gsm8k" if os.environ.get("SLMBENCH_DATA") else "nano_note"
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(model=place, task=task, steps=STEPS), encoding="utf-8")
    recipe = load_recipe(str(path), catalog, settings)
    source = resolve_model(recipe.spec.model, catalog, twin=name in TWINS and model != "nano")
    with tempfile.TemporaryDirectory() as out:
        made = train_adapter(recipe, "one", catalog, source, out=out)
        memory: dict[str, Any] = json.loads(Path(made, "training.json").read_text(encoding="utf-8"))["memory"]
    return memory


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] == "--case":
        memory = run_case(sys.argv[2], Path(sys.argv[3]))
        (Path(sys.argv[3]) / "memory.json").write_text(json.dumps(memory), encoding="utf-8")
        return
    mirror = os.environ.get("SLMBENCH_DATA")
    chosen = sys.argv[1:] or [*TWINS, *(LARGE if mirror else ())]
    worst = {"forecast": 0.0, "calibrated": 0.0}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if mirror and set(chosen) & set(LARGE):
            build_models(folder, Path(mirror))
        for case in chosen:
            command = [sys.executable, str(Path(__file__).resolve()), "--case", case, str(folder)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=HERE)
            memory = json.loads((folder / "memory.json").read_text(encoding="utf-8"))
            print(_line(case, memory, worst), flush=True)
    for kind, percent in worst.items():
        print(f"worst_{kind}_percent: {percent:.1f} (limit {LIMIT_PERCENT})")
    sys.exit(max(worst.values()) > LIMIT_PERCENT)


def _line(case: str, memory: dict[str, Any], worst: dict[str, float]) -> str:
    forecast, measured = memory["forecast"], memory["peak_bytes"]
    said = {"forecast": forecast["forecast_bytes"], "calibrated": forecast["calibrated_bytes"]}
    shown = []
    for kind, size in said.items():
        percent = 100 * (size / measured - 1)
        worst[kind] = max(worst[kind], abs(percent))
        shown.append(f"{kind} {size / 1e6:,.0f} MB ({percent:+.1f}%)")
    parts = ", ".join(f"{name} {size / 1e6:,.0f}" for name, size in forecast["parts"].items())
    # Of a twin nearly all is overhead: this says how near the rest comes, with all that is off in the overhead too.
    beside, expected = (size - forecast["parts"]["overhead"] for size in (measured, forecast["forecast_bytes"]))
    shown.append(f"beside the overhead {expected / 1e6:,.0f} MB of {beside / 1e6:,.0f} MB")
    return f"{case}: measured {measured / 1e6:,.0f} MB, {', '.join(shown)}; {parts}"


if __name__ == "__main__":
    main()
