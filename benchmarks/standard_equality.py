"""Our `hellaswag` and `gsm8k` against lm-eval's own tasks: same records, same model (stories260K, fp32), in one run.

SLMBENCH_DATA=... SLMBENCH_STORIES260K=... python benchmarks/standard_equality.py [--limit N]
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

from slmbench.cli._work import quiet_libraries
from slmbench.evaluation import evaluate_tasks
from slmbench.evaluation._harness import build_harness_task, render_all
from slmbench.formats import load_format
from slmbench.models import ModelSource, bind_model
from slmbench.task import Task, load_task


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=int, default=None)
    limit = parser.parse_args().limit
    quiet_libraries()
    model, tokenizer = stories260k.load(Path(os.environ["SLMBENCH_STORIES260K"]))
    loaded = bind_model(ModelSource("stories260K", "karpathy/tinyllamas", "memory"), model, tokenizer)
    root = Path(os.environ["SLMBENCH_DATA"])

    files = {split: str(root / "hellaswag" / f"{split}.jsonl") for split in ("train", "validation")}
    task = load_task("hellaswag")
    own = lm_eval_own.own_task("hellaswag/hellaswag.yaml", files, shots=0)
    result = lm_eval_own.evaluate_own(own, model, tokenizer, batch=16, limit=limit)
    with tempfile.TemporaryDirectory() as out:
        (run,) = evaluate_tasks(loaded, [task], out=out, batch=16, limit=limit)
        ours = run.samples()
    theirs = sorted(result["samples"]["hellaswag"], key=lambda sample: sample["doc_id"])
    worst = max(
        abs(a - float(b[0]))
        for one, other in zip(ours, theirs, strict=True)
        for a, b in zip(one["loglikelihoods"], other["filtered_resps"], strict=True)
    )
    values = {metric["name"]: metric["value"] for metric in run.record["metrics"]}
    print(f"hellaswag, {len(ours)} items: {_equal_requests(task, own, {})} requests equal")
    print(f"  largest difference of a log-likelihood: {worst:.2e} nats")
    for name, their in (("accuracy", "acc"), ("accuracy_norm", "acc_norm")):
        print(f"  {name}: ours {values[name]:.4f}, lm-eval's {result['results']['hellaswag'][their + ',none']:.4f}")

    files = {split: str(root / "gsm8k" / f"{split}.jsonl") for split in ("train", "test")}
    for shots in (0, 5):
        task = load_task("gsm8k").with_shots(shots)
        own = lm_eval_own.own_task("gsm8k/gsm8k.yaml", files, shots=shots)
        equal = _equal_requests(task, own, {"max_gen_toks": 256})
        print(f"gsm8k, {shots} shots: {equal} requests equal")
    task = load_task("gsm8k").with_shots(0)
    own = lm_eval_own.own_task("gsm8k/gsm8k.yaml", files, shots=0)
    result = lm_eval_own.evaluate_own(own, model, tokenizer, batch=16, limit=limit)
    with tempfile.TemporaryDirectory() as out:
        (run,) = evaluate_tasks(loaded, [task], out=out, batch=16, limit=limit)
        ours = run.samples()
    values = {metric["name"]: metric["value"] for metric in run.record["metrics"]}
    for name, their in (("exact_match/strict", "strict-match"), ("exact_match/flexible", "flexible-extract")):
        print(f"  {name}: ours {values[name]:.4f}, lm-eval's {result['results']['gsm8k']['exact_match,' + their]:.4f}")
    theirs = [sample for sample in result["samples"]["gsm8k"] if sample["filter"] == "strict-match"]
    theirs.sort(key=lambda sample: sample["doc_id"])
    same = sum(one["output"] == other["resps"][0][0] for one, other in zip(ours, theirs, strict=True))
    print(f"  outputs equal: {same} of {len(ours)}")
    sys.exit(worst > 1e-4 or same < len(ours))


def _equal_requests(task: Task, own: Any, unsaid: dict[str, Any]) -> str:
    examples = task.examples(task.spec.split)
    ours = build_harness_task(task, examples, render_all(task, examples, load_format("plain"), tokenizer=None))
    pairs = []
    for harness in (ours, own):
        harness.build_all_requests(limit=None, rank=0, world_size=1)
        pairs.append([request.arguments for request in harness.instances])
    theirs = [(text, {**how, **unsaid} if isinstance(how, dict) else how) for text, how in pairs[1]]
    return f"{sum(a == b for a, b in zip(pairs[0], theirs, strict=True))} of {len(theirs)}"


if __name__ == "__main__":
    main()
