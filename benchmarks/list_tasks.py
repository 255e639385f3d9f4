"""CPU time of `slmbench list tasks` against `python -c pass`, and of listing 1,000 task folders
against lm-eval building its own index, in one run.

    python benchmarks/list_tasks.py

Whole processes, alternating, the median of each; user + system time as the operating system counts it.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = 15
N_TASKS = 1000
TASK = """\
summary: Task number {i} of a large catalog.
source: Made by a benchmark.
version: 1
license: mit
dataset: {{files: {{train: train.jsonl, test: test.jsonl}}, columns: [question, answer]}}
kind: generate
prompt: {{user: "Question: {{{{ question }}}}", prefix: "Answer:"}}
answer: "{{{{ answer }}}}"
generation: {{max_tokens: 64, stop: ["Question:"]}}
metrics: [exact_match]
"""


def cpu_seconds(command: list[str], **environment: str) -> float:
    """User and system time of one finished process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **environment})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def medians(a: list[str], b: list[str], **environment: str) -> tuple[float, float]:
    """The medians of two commands run in turn."""
    pairs = [(cpu_seconds(a, **environment), cpu_seconds(b, **environment)) for _ in range(RUNS)]
    return statistics.median(x for x, _ in pairs), statistics.median(y for _, y in pairs)


def main() -> None:
    slmbench = shutil.which("slmbench", path=str(Path(sys.executable).parent)) or shutil.which("slmbench")
    assert slmbench, "install slmbench first"
    listing, nothing = medians([slmbench, "list", "tasks"], [sys.executable, "-c", "pass"])
    print(f"list tasks: {listing * 1000:.0f} ms CPU, python -c pass {nothing * 1000:.0f} ms")
    print(f"list tasks / python -c pass: {listing / nothing:.2f} (at most 8)")
    with tempfile.TemporaryDirectory() as folder:
        for i in range(N_TASKS):
            task = Path(folder) / "tasks" / f"task_{i:04d}"
            task.mkdir(parents=True)
            (task / "task.yaml").write_text(TASK.format(i=i))
        large, _ = medians([slmbench, "list", "tasks"], [sys.executable, "-c", "pass"], SLMBENCH_PATH=folder)
    print(f"list tasks with {N_TASKS} more task folders: {large:.3f} s CPU (at most 1)")
    index = cpu_seconds([sys.executable, "-c", "from lm_eval.tasks import TaskManager; TaskManager()"])
    print(f"lm-eval's own index of its tasks, in this run: {index:.1f} s CPU, {index / large:.0f} times as much")
    sys.exit(listing / nothing > 8 or large > 1)


if __name__ == "__main__":
    main()
