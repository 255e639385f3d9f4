"""Two adapters of a real instruct model become one: `slmbench run smollm2-merge`, its scores as they are.

    SLMBENCH_DATA=mirror SLMBENCH_SMOLLM2=SmolLM2-135M-Instruct.Q4_1.gguf python benchmarks/smollm2_merge.py [OUT]

SmolLM2-135M-Instruct is trained on 400 rows of GSM8K and on 400 of MedQuAD, apart; the two adapters are added to one by
task arithmetic, lambda searched on rows that no training saw. Base, both adapters, the merge and the average of factors
are scored on the first 100 items of each in the mirror, with 95% intervals. OUT: a folder that is kept, in which a run
that was cut off goes on.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from recipe_runs import need_real_parts, run_recipe

RECIPE = "smollm2-merge"


def search_lines(search: Mapping[str, Any]) -> list[str]:
    """What a merge's record tells of its search: of every round the rows, the leader, and who left."""
    lines = []
    for one in search["rounds"]:
        told = [f"{each['candidate']} {each['loss']:.4f}" + " out" * ("left" in each) for each in one["standings"]]
        lines.append(f"  {one['rows']} rows: {'; '.join(told)}")
    return [*lines, f"  chosen: {search['chosen']}; as good: {', '.join(search['as_good']) or 'none'}"]


def main() -> None:
    need_real_parts()
    with tempfile.TemporaryDirectory() as place:
        ran = run_recipe(RECIPE, sys.argv[1] if len(sys.argv) > 1 else place)
        record = json.loads((ran.out / "adapters" / "arithmetic" / "merge.json").read_text(encoding="utf-8"))
    ran.print_scores()
    print("lambda, by the answers' loss as a share of the base's, on rows that no training saw")
    print("\n".join(search_lines(record["search"])))


if __name__ == "__main__":
    main()
