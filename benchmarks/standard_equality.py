"""Every standard task against lm-eval's own: same rows, same model (stories260K, fp32), in one run.

SLMBENCH_DATA=... SLMBENCH_STORIES260K=... python benchmarks/standard_equality.py [--limit N] [TASK...]

One line a task: how many of lm-eval's requests are sent, without and with shots; then, at 0 shots on the first N rows,
the largest difference of a log-likelihood or how many outputs are equal, and each score, ours / lm-eval's. Exits with 1
where a request, an output or a score differs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import lm_eval_own
import stories260k
from attrs import evolve

from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.evaluation._harness import build_harness_task, render_all
from slmbench.formats import load_format
from slmbench.models import LoadedModel, ModelSource, bind_model
from slmbench.task import Task, load_task
from slmbench.workflow.quiet import quiet_libraries

TOLERANCE_NATS = 1e-4
# stories260K has a context of 512 tokens; human_eval's 1,024 are cut to so many on both sides.
MOST_TOKENS = 256
OURS = {
    "acc": "accuracy",
    "acc_norm": "accuracy_norm",
    "exact_match/strict-match": "exact_match/strict",
    "exact_match/flexible-extract": "exact_match/flexible",
    "exact_match/remove_whitespace": "exact_match/open",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("tasks", nargs="*", default=list(lm_eval_own.STANDARD))
    arguments = parser.parse_args()
    quiet_libraries()
    model, tokenizer = stories260k.load(Path(os.environ["SLMBENCH_STORIES260K"]))
    loaded = bind_model(ModelSource("stories260K", "karpathy/tinyllamas", "memory"), model, tokenizer)
    equal = True
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "mirror"
        lm_eval_own.lay_out(Path(os.environ["SLMBENCH_DATA"]), root)
        os.environ["SLMBENCH_DATA"] = str(root)
        for name in arguments.tasks:
            said, same = _compare(name, root, loaded, arguments.limit, str(Path(folder) / "out"))
            equal = equal and same
            print(f"{name:15} {said}", flush=True)
    sys.exit(not equal)


def _compare(name: str, root: Path, loaded: LoadedModel, limit: int, out: str) -> tuple[str, bool]:
    standard = lm_eval_own.STANDARD[name]
    task = load_task(name)
    if task.kind == "code":
        task = task.with_samples(1)
    sent, same = [], True
    for shots in sorted({0, standard.shots}):
        own = lm_eval_own.own_requests(name, root, shots=shots)
        pairs = list(zip(_requests(task.with_shots(shots)), own, strict=True))
        alike = sum(ours == theirs for ours, theirs in pairs)
        sent.append(f"{alike} of {len(pairs)} at {shots}")
        same = same and alike == len(pairs)
    parts = [f"requests {', '.join(sent)} shots"]

    task = _shortened(task.with_shots(0))
    items, means = lm_eval_own.own_results(
        name,
        root,
        loaded.model,
        loaded.tokenizer,
        batch=16,
        limit=limit,
        shots=0,
        max_tokens=task.max_tokens if task.kind == "code" else None,
    )
    (run,) = evaluate_tasks(loaded, [task], EvaluationOptions(out=out, batch=16, limit=limit))
    pairs = list(zip(run.samples(), items, strict=True))
    if task.kind == "choice":
        worst = max(
            abs(ours - theirs)
            for sample, item in pairs
            for ours, theirs in zip(sample["loglikelihoods"], item["loglikelihoods"], strict=True)
        )
        parts.append(f"{len(pairs)} items, log-likelihoods within {worst:.1e} nats")
        same = same and worst <= TOLERANCE_NATS
    else:
        alike = sum(sample["output"] == item["output"] for sample, item in pairs)
        parts.append(f"outputs {alike} of {len(pairs)}")
        same = same and alike == len(pairs)
    values = {metric["name"]: metric["value"] for metric in run.record["metrics"]}
    for title, mean in means.items():
        parts.append(f"{OURS[title]} {values[OURS[title]]:.4f} / {mean:.4f}")
        same = same and abs(values[OURS[title]] - mean) < 1e-9
    return "; ".join(parts), same


def _requests(task: Task) -> list[Any]:
    plain = load_format("plain")
    examples = task.examples(task.spec.split)
    harness = build_harness_task(task, examples, render_all(task, examples, plain, None), plain)
    harness.build_all_requests(limit=None, rank=0, world_size=1)
    return [(request.request_type, request.arguments) for request in harness.instances]


def _shortened(task: Task) -> Task:
    generation = task.spec.generation
    generation = generation.model_copy(update={"max_tokens": min(generation.max_tokens, MOST_TOKENS)})
    return evolve(task, spec=task.spec.model_copy(update={"generation": generation}))


if __name__ == "__main__":
    main()
