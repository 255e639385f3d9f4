"""CPU time to read and check runs before they are ranked, against json.loads of the same lines and another tree.

    python benchmarks/reading_runs.py [--runs 300] [--samples 300] [--against CHECKOUT] [--large 1000x10000]

The runs are written by the one writer, each with one metric of 0 and 1; every tree reads all of them in a process of
its own, one after the other, and the fastest round of each counts. What is timed is `load_runs`, without its import.
First: the digests of record, samples and item scores, and every value held to the item scores. Again: samples
that an earlier call has digested aren't read. From samples: without the files of item scores, as of an earlier version,
every line is held to its model. --large is runs x items (7 GB in a temporary folder; 0x0 leaves it out): seconds, and
peak memory of the process.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from slmbench.runs import (
    CostPart,
    DatasetPart,
    MetricPart,
    ModelPart,
    OpenRun,
    RunIdentity,
    SampleRecord,
    TaskPart,
    sample_line,
)
from slmbench.statistics.estimate import estimate

TOP = Path(__file__).resolve().parent.parent
OURS = (
    "import sys,time;from slmbench.leaderboard import load_runs;t=time.process_time();n=len(load_runs(sys.argv[1])[0])"
)
LARGE = (
    "import sys,time,resource;from slmbench.leaderboard import load_runs;t=time.monotonic();"
    "n=len(load_runs(sys.argv[1])[0]);s=time.monotonic()-t;"
    "print(n,s,resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1000)"
)
LARGE_S, LARGE_MB = 10, 1000
PEER = (
    "import sys,time,json,pathlib;t=time.process_time();"
    "n=len([[json.loads(l) for l in p.open('rb')] for p in pathlib.Path(sys.argv[1]).glob('runs/*/samples.jsonl')])"
)


def write_runs(out: str, runs: int, samples: int, *, item_scores: bool = True) -> None:
    """Runs of 20 models on as many tasks as are needed. samples: of each; prompts of some 600 characters."""
    drawn = random.Random(0)
    words = [f"word{number}" for number in range(500)]
    for number in range(runs):
        model, task = f"model-{number % 20}", f"task-{number // 20}"
        identity = RunIdentity(
            seed=0,
            limit=None,
            model=ModelPart(name=model, weights_sha256="a" * 64, dtype="float32"),
            task=TaskPart(id=task, version=1),
            dataset=DatasetPart(id=task, source="hub", n=samples),
        )
        record = {"run_id": f"{model}__{task}", **identity.as_json(), "comparability_key": task}
        run = OpenRun(os.path.join(out, "runs", f"{model}__{task}"), record)
        scores = [float(drawn.random() < 0.6) for _ in range(samples)]
        found = estimate(scores, [None] * samples, (0.0, 1.0))
        metric = MetricPart(
            name="accuracy",
            scorer="accuracy",
            pooled=False,
            value=found.value,
            se=found.stderr,
            ci_lo=found.ci_low,
            ci_hi=found.ci_high,
            method=found.method,
            n=samples,
            n_error=0,
            higher_is_better=True,
            range=[0.0, 1.0],
        )
        lines = [
            SampleRecord(
                item_id=f"item-{position}",
                epoch=0,
                cluster_id=None,
                prompt=" ".join(drawn.choices(words, k=80)),
                prompt_sha256="0" * 64,
                target="yes",
                references=["yes"],
                output=" ".join(drawn.choices(words, k=20)),
                choices=["yes", "no"],
                loglikelihoods=[-drawn.random(), -drawn.random()],
                gold=0,
                finish_reason="scored",
                tokens_in=120,
                tokens_out=2,
                truncated=False,
                latency_ms=12.5,
                compute_ms=3.25,
                scores={"accuracy": score},
            )
            for position, score in enumerate(scores)
        ]
        results = {"metrics": [metric.model_dump()], "cost": CostPart(seconds=1.0).model_dump()}
        if item_scores:
            run.finish(lines, results)
        else:
            run.finish_written("".join(map(sample_line, lines)).encode(), None, results)


def seconds(code: str, out: str, tree: Path, runs: int, cache: str) -> float:
    """CPU seconds that a process with a tree's package takes for what `code` times. cache: its cache folder."""
    command = [sys.executable, "-c", f"{code};print(n, time.process_time() - t)", out]
    # -P: the folder that this is started in is no place for packages.
    done = subprocess.run(
        [command[0], "-P", *command[1:]],
        env={**os.environ, "PYTHONPATH": str(tree), "SLMBENCH_CACHE": cache},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stderr)
    found, took = done.stdout.split()
    if int(found) != runs:
        sys.exit(f"{tree}: {found} of {runs} runs were read")
    return float(took)


def main() -> None:
    """Prints seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--samples", type=int, default=300, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", default="1000x10000", help="runs x items")
    parser.add_argument("--against", type=Path, help="a checkout to compare with, as an earlier commit's")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as out, tempfile.TemporaryDirectory() as caches:
        write_runs(out, args.runs, args.samples)
        bare = os.path.join(out, "bare")
        write_runs(bare, args.runs, args.samples, item_scores=False)
        lines = args.runs * args.samples
        size = sum(path.stat().st_size for path in Path(out, "runs").rglob("*.jsonl")) / 1e6
        print(f"{args.runs} runs of {args.samples} samples, {size:.0f} MB, fastest of {args.rounds} rounds each")
        time.sleep(2)  # What was changed just now is not noted in a cache.
        whom = {
            "first": (OURS, TOP, out),
            "again": (OURS, TOP, out),
            "from samples": (OURS, TOP, bare),
            "json.loads alone": (PEER, TOP, out),
        }
        if args.against:
            whom["before"] = (OURS, args.against.resolve(), out)
        took: dict[str, list[float]] = {name: [] for name in whom}
        for number in range(args.rounds):
            for name, (code, tree, where) in whom.items():
                cache = os.path.join(caches, str(number) if name in ("first", "again") else "none")
                took[name].append(seconds(code, where, tree, args.runs, cache))
        best = {name: min(times) for name, times in took.items()}
        for name, value in best.items():
            ratio = best["first"] / value
            print(f"{name}: {value:.2f} s, {1e6 * value / lines:.1f} us a sample; `first` takes {ratio:.2f} of it")
    runs, items = map(int, args.large.split("x"))
    if runs and items:
        large(runs, items)


def large(runs: int, items: int) -> None:
    """Prints what it takes to read many large runs, beside what is wanted."""
    with tempfile.TemporaryDirectory() as out, tempfile.TemporaryDirectory() as cache:
        script = str(Path(__file__).with_name("_synthetic.py"))
        shape = {"--models": runs, "--tasks": 1, "--items": items, "--columns": 1, "--chars": 200}
        options = [str(one) for pair in shape.items() for one in pair]
        subprocess.run([sys.executable, script, out, *options], check=True, stdout=subprocess.DEVNULL)
        size = sum(path.stat().st_size for path in Path(out).rglob("*.jsonl")) / 1e9
        print(f"{runs:,} runs of {items:,} items, {size:.1f} GB of samples; goal: {LARGE_S} s, {LARGE_MB:,} MB")
        for call in ("first", "again"):
            done = subprocess.run(
                [sys.executable, "-P", "-c", LARGE, out],
                env={**os.environ, "PYTHONPATH": str(TOP), "SLMBENCH_CACHE": cache},
                capture_output=True,
                text=True,
                check=True,
            )
            n, took, peak = map(float, done.stdout.split())
            print(f"{call}: {n:.0f} runs in {took:.1f} s, {peak:.0f} MB")


if __name__ == "__main__":
    main()
