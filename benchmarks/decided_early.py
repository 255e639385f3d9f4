"""The real SmolLM2-135M-Instruct, plain against chat: what stopping as soon as it is decided saves.

    SLMBENCH_DATA=mirror SLMBENCH_SMOLLM2=SmolLM2-135M-Instruct.Q4_1.gguf python benchmarks/decided_early.py [--task T]

The one format is scored on all items that the mirror has of the task; the other is then asked against that run until it
is decided, and, for what it would have taken and said, goes on to all items. Seconds are the model's own, of one
process with one thread. Exits with 1 if what was decided early isn't what all items say.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")

import slmbench
from slmbench.console import duration
from slmbench.statistics.race import ALPHA

MODEL = "smollm2-135m-instruct"


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--task", default="hellaswag")
    flags.add_argument("--out", help="kept there; a folder of its own otherwise")
    given = flags.parse_args()
    for name in ("SLMBENCH_DATA", "SLMBENCH_SMOLLM2"):
        if not os.environ.get(name):
            sys.exit(f"set {name}")
    with tempfile.TemporaryDirectory() as place:
        sys.exit(not compared(given.task, given.out or place))


def compared(task: str, out: str) -> bool:
    (plain,) = slmbench.evaluate(MODEL, task, out=out, format="plain")
    (early,) = slmbench.evaluate(MODEL, task, out=out, format="chat", against=plain.folder, until="decided")
    (whole,) = slmbench.evaluate(MODEL, task, out=out, format="chat")
    told = early.decision
    assert told is not None
    metric, n, total = told["metric"], told["n"], told["total"]
    scores = {
        name: next(one for one in run.record["metrics"] if one["name"] == metric)
        for name, run in (("plain", plain), ("chat", whole))
    }
    for name, score in scores.items():
        low, high = score["ci_lo"], score["ci_hi"]
        print(f"{MODEL}, {task}, {name}: {metric} {score['value']:.3f} [{low:.3f}, {high:.3f}] on all {total:,} items")
    spent, all_s = early.record["cost"]["seconds"], whole.record["cost"]["seconds"]
    print(
        f"chat against plain, --until decided: {told['verdict']} after {n:,} of {total:,} items ({told['wins']} wins, "
        f"{told['losses']} losses, {told['ties']} ties; E = {told['e_value']:.3g}; valid p = {told['p']:.3g}, wrong at "
        f"most {ALPHA:.0%})"
    )
    print(
        f"saved: {total - n:,} of {total:,} items ({1 - n / total:.0%}), {duration(all_s - spent)} of "
        f"{duration(all_s)} ({1 - spent / all_s:.0%})"
    )
    difference = scores["chat"]["value"] - scores["plain"]["value"]
    print(f"all items say {difference:+.3f}; at {n:,} items it was {told['difference']:+.3f}, "
          f"{told['ci_lo']:+.3f} to {told['ci_hi']:+.3f}")  # fmt: skip
    return told["verdict"] in ("undecided", "equal") or (difference > 0) == (told["verdict"] == "better")


if __name__ == "__main__":
    main()
