"""What an adapter adds to nano on each nano task: base against adapter, three training seeds, 200 test items each.

    python benchmarks/nano_gains.py [--out DIR]

The same steps as `slmbench run nano-quickstart` and `nano-code`, one adapter a task, on seeds 0, 1 and 2.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from slmbench.catalog import default_catalog
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.models import attach_adapter, load_model, resolve_model
from slmbench.recipe import load_recipe
from slmbench.statistics.estimate import estimate
from slmbench.task import load_task
from slmbench.training import train_adapter
from slmbench.workflow.quiet import quiet_libraries

SEEDS = (0, 1, 2)
CASES = (
    (
        "nano-quickstart",
        "arithmetic",
        "nano_arithmetic",
        "exact_match/strict",
        "base <= 0.05, adapter >= 0.90",
        lambda b, a: b <= 0.05 and a >= 0.9,
    ),
    ("nano-quickstart", "note", "nano_note", "exact_match", "adapter >= 0.80", lambda b, a: a >= 0.8),
    ("nano-quickstart", "choice", "nano_choice", "accuracy", "adapter >= base + 0.30", lambda b, a: a >= b + 0.3),
    ("nano-code", "code", "nano_code", "pass@1", "base <= 0.05, adapter >= 0.80", lambda b, a: b <= 0.05 and a >= 0.8),
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=None)
    out = parser.parse_args().out or tempfile.mkdtemp()
    quiet_libraries()
    catalog = default_catalog()
    source = resolve_model("nano", catalog)
    missed = []
    for recipe_name, adapter, name, metric, asked, held in CASES:
        task = load_task(name, catalog)
        base = _scores(load_model(source), task, metric, out)
        shown = estimate(base)
        print(f"{name} {metric} ({asked})")
        print(f"  base            {_text(shown)}")
        values = []
        for seed in SEEDS:
            recipe = load_recipe(recipe_name, catalog, (f"seed={seed}",))
            folder = train_adapter(recipe, adapter, catalog, source, out=f"{out}/seed-{seed}")
            scores = _scores(attach_adapter(load_model(source), folder), task, metric, out)
            seconds = json.loads((Path(folder) / "training.json").read_text())["train_s"]
            print(f"  adapter, seed {seed} {_text(estimate(scores))}  trained in {seconds:.0f} s", flush=True)
            values.append(sum(scores) / len(scores))
        worst = min(values)
        print(f"  worst adapter - base: {worst - shown.value:+.3f}; mean of seeds {sum(values) / len(values):.3f}")
        if not held(shown.value, worst):
            missed.append(name)
    sys.exit(f"missed: {', '.join(missed)}" if missed else 0)


def _scores(loaded: object, task: object, metric: str, out: str) -> list[float]:
    (run,) = evaluate_tasks(loaded, [task], EvaluationOptions(out=out, batch=64))  # type: ignore[arg-type,list-item]
    return [sample["scores"][metric] for sample in run.samples()]


def _text(made: object) -> str:
    return f"{made.value:.3f}  [{made.ci_low:.3f}, {made.ci_high:.3f}]  n={made.n}"  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
