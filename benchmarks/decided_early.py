"""The real SmolLM2-135M-Instruct, plain against chat, and against nano: what it saves to stop once it is decided.

    SLMBENCH_DATA=mirror SLMBENCH_SMOLLM2=SmolLM2-135M-Instruct.Q4_1.gguf python benchmarks/decided_early.py [--task T]

One run is made on all items that the mirror has of the task (HellaSwag unless told); the other one is asked against it
until it is decided, with a margin and without, and then goes on to all items for what it would have taken and said.
Seconds are the model's own, in one process with one thread. Exits with 1 if a winner that was declared early isn't the
one on all items.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")

import slmbench
from slmbench.console import duration
from slmbench.runs import Run

MODEL, SMALL = "smollm2-135m-instruct", "nano"
MARGIN = 0.15


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
    (small,) = slmbench.evaluate(SMALL, task, out=out, format="plain")
    early = [raced(task, out, "plain", small, None)]
    (plain,) = slmbench.evaluate(MODEL, task, out=out, format="plain")
    early += [raced(task, out, "chat", plain, margin) for margin in (MARGIN, None)]
    (chat,) = slmbench.evaluate(MODEL, task, out=out, format="chat")
    metric = str(early[0].record["metrics"][0]["name"] if early[0].decision is None else early[0].decision["metric"])
    scores = {name: score(run, metric) for name, run in ((SMALL, small), ("plain", plain), ("chat", chat))}
    print(f"{task}, {metric}: " + ", ".join(f"{name} {value:.3f}" for name, value in scores.items()))
    held = True
    for run, name, other, whole in zip(
        early, ("plain", "chat", "chat"), (SMALL, "plain", "plain"), (plain, chat, chat), strict=True
    ):
        told = run.decision
        assert told is not None
        n, total = told["n"], told["total"]
        spent, every = run.record["cost"]["seconds"], whole.record["cost"]["seconds"]
        within = "" if told["margin"] is None else f", --margin {told['margin']:g}"
        print(
            f"{MODEL} {name} against {other}{within}: {told['verdict']} after {n:,} of {total:,} items "
            f"({told['wins']} wins, {told['losses']} losses, {told['ties']} ties; E {told['e_value']:.3g}, p "
            f"{told['p']:.2g}); saved {total - n:,} items ({1 - n / total:.0%}), {duration(every - spent)} of "
            f"{duration(every)} ({1 - spent / every:.0%})"
        )
        difference = scores[name] - scores[other]
        interval = f"95% {told['ci_lo']:+.3f} to {told['ci_hi']:+.3f}"
        print(f"  {told['difference']:+.3f}, {interval}; on all items {difference:+.3f}")
        held &= told["verdict"] in ("undecided", "equal") or (difference > 0) == (told["verdict"] == "better")
    return held


def raced(task: str, out: str, style: str, other: Run, margin: float | None) -> Run:
    (run,) = slmbench.evaluate(MODEL, task, out=out, format=style, against=other.folder, until="decided", margin=margin)
    return run


def score(run: Run, metric: str) -> float:
    return next(float(one["value"]) for one in run.record["metrics"] if one["name"] == metric)


if __name__ == "__main__":
    main()
