"""CPU seconds of this tree and of another one, an older checkout, for the same work, in turns, in one run.

    SLMBENCH_DATA=mirror python benchmarks/against.py [TREE] [--only WORK] [--rounds N]

TREE is by default that of SLMBENCH_BEFORE. Each piece of work is a process of its own, one thread, this tree and the
other one in turns; the fastest of the rounds counts, and a piece that takes over 5% longer here is marked `missed`.
`scoring` and `writing` are the engine's calls alone (engine_speed.py's `hellaswag-0`, 20 documents, and `gsm8k-5`, 12);
the others are whole commands, imports included. CPU seconds are compared, as other work on the machine moves them
least.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MOST = 1.05
CASES = {"scoring": ("hellaswag-0", 20), "writing": ("gsm8k-5", 12)}
COMMANDS = {
    "evaluation": "eval nano --tasks nano_choice,nano_arithmetic --limit 60 --out {out}",
    "training": "train nano-quickstart --adapter arithmetic --out {out}",
    "quickstart": "quickstart --out {out}",
    "check": "check --all",
}


def in_process(name: str, tree: Path) -> float:
    """CPU seconds of the engine's call alone."""
    sys.path.insert(0, str(tree / "benchmarks"))
    import engine_speed

    wanted, documents = CASES[name]
    case = next(case for case in engine_speed.CASES if case.name == wanted)
    tokenizer = engine_speed.tokenizer_of(Path(os.environ["SLMBENCH_DATA"]))
    requests = engine_speed.requests_of(case, tokenizer, documents)
    model = engine_speed.model_of(case.layers)
    batch = case.own or case.batches[0]
    engine_speed.answer("ours", model, tokenizer, batch, requests.make(2))
    instances = requests.make()
    begun = time.process_time()
    engine_speed.answer("ours", model, tokenizer, batch, instances)
    return time.process_time() - begun


def seconds_of(name: str, tree: Path) -> float:
    """CPU seconds of one round in a process of its own."""
    env = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        if name in CASES:
            command = [sys.executable, __file__, str(tree), "--child", name]
        else:
            command = [sys.executable, "-m", "slmbench", *COMMANDS[name].format(out=folder).split()]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{name} in {tree.name}: {done.stderr[-2000:]}")
    if name in CASES:
        return float(done.stdout.split()[-1])
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tree", type=Path, nargs="?", default=os.environ.get("SLMBENCH_BEFORE"))
    parser.add_argument("--only", choices=[*CASES, *COMMANDS])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(in_process(arguments.child, arguments.tree))
        return
    if not (os.environ.get("SLMBENCH_DATA") and arguments.tree):
        sys.exit("set SLMBENCH_DATA, and name the other tree")
    print("| work | before, CPU s | now, CPU s | now / before |\n| --- | ---: | ---: | ---: |")
    for name in (*CASES, *COMMANDS):
        if arguments.only not in (None, name):
            continue
        taken: dict[Path, list[float]] = {arguments.tree.resolve(): [], HERE.parent: []}
        for _ in range(arguments.rounds):
            for tree, seconds in taken.items():
                seconds.append(seconds_of(name, tree))
        before, now = (min(seconds) for seconds in taken.values())
        missed = "; missed" if now > MOST * before else ""
        print(f"| {name} | {before:.2f} | {now:.2f} | {now / before:.2f}{missed} |", flush=True)


if __name__ == "__main__":
    main()
