"""Two adapters of a real instruct model become one: `slmbench run smollm2-merge`, its scores as they are.

    SLMBENCH_DATA=mirror SLMBENCH_SMOLLM2=SmolLM2-135M-Instruct.Q4_1.gguf python benchmarks/smollm2_merge.py [OUT]

SmolLM2-135M-Instruct is trained on 400 rows of GSM8K and on 400 of MedQuAD, apart; the two adapters are added to one by
task arithmetic, lambda searched on rows that no training saw. Base, both adapters, the merge and the average of factors
are scored on the first 100 items of each in the mirror, with 95% intervals. OUT: a folder that is kept, in which a run
that was cut off goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RECIPE = "smollm2-merge"
THREADS = 2


def lines_of(board: Mapping[str, Any]) -> list[str]:
    """A line for each score of a leaderboard, with its interval and its items."""
    width = max(len(row["name"]) for row in board["rows"])
    lines = []
    for column in board["columns"]:
        lines.append(column["key"])
        for row in board["rows"]:
            if (score := row["scores"].get(column["key"])) is not None:
                low, high = score["ci_low"], score["ci_high"]
                lines.append(f"  {row['name']:<{width}}  {score['value']:.3f}  [{low:.3f}, {high:.3f}]  n={score['n']}")
    return lines


def search_lines(search: Mapping[str, Any]) -> list[str]:
    """What a merge's record tells of its search: of every round the rows, the leader, and who left."""
    lines = []
    for one in search["rounds"]:
        told = [f"{each['candidate']} {each['loss']:.4f}" + " out" * ("left" in each) for each in one["standings"]]
        lines.append(f"  {one['rows']} rows: {'; '.join(told)}")
    return [*lines, f"  chosen: {search['chosen']}; as good: {', '.join(search['as_good']) or 'none'}"]


def main() -> None:
    for name in ("SLMBENCH_DATA", "SLMBENCH_SMOLLM2"):
        if not os.environ.get(name):
            sys.exit(f"set {name}")
    with tempfile.TemporaryDirectory() as place:
        out = sys.argv[1] if len(sys.argv) > 1 else place
        command = [sys.executable, "-m", "slmbench", "run", RECIPE, "--out", out]
        environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
        done = subprocess.run(command, stdout=subprocess.DEVNULL, env=environment)
        if done.returncode:
            sys.exit(f"slmbench run {RECIPE}: exit code {done.returncode}")
        board = json.loads(Path(out, "leaderboard", "leaderboard.json").read_text(encoding="utf-8"))
        record = json.loads(Path(out, "adapters", "arithmetic", "merge.json").read_text(encoding="utf-8"))
    print(f"slmbench run {RECIPE}")
    print("\n".join(lines_of(board)))
    print("lambda, by the answers' loss as a share of the base's, on rows that no training saw")
    print("\n".join(search_lines(record["search"])))


if __name__ == "__main__":
    main()
