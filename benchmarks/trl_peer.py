"""The peer of training_speed.py: a plain trl script, as its documentation has them, with trl's defaults.

    python benchmarks/trl_peer.py MODEL ROWS.jsonl OUT.json --steps 4 --dtype float32

ROWS has `prompt` and `completion` in each line. dtype: float32; mixed, trl's own default (float32 weights, bfloat16
autocast); bfloat16 weights. OUT gets each step's seconds and loss, the tokens of the whole run, and the process' peak
of resident bytes.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import datasets
import transformers
import trl
from peft import LoraConfig


class Clock(transformers.TrainerCallback):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *_: object, **__: object) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, *_: object, **__: object) -> None:
        self.seconds.append(time.perf_counter() - self.started)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("out")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--dtype", choices=("float32", "mixed", "bfloat16"), required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--alpha", type=float, default=32)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    clock = Clock()
    trainer = trl.SFTTrainer(
        model=options.model,
        args=trl.SFTConfig(
            output_dir=str(Path(options.out).with_suffix("")),
            per_device_train_batch_size=options.batch,
            learning_rate=options.lr,
            lr_scheduler_type="constant",
            max_steps=options.steps,
            seed=options.seed,
            model_init_kwargs={"dtype": "bfloat16" if options.dtype == "bfloat16" else "float32"},
            use_cpu=True,
            bf16=options.dtype != "float32",
            # What a comparison needs: each step's loss, the rows in the file's order, nothing written between steps.
            logging_steps=1,
            train_sampling_strategy="sequential",
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=datasets.Dataset.from_json(options.rows),
        peft_config=LoraConfig(
            r=options.rank, lora_alpha=options.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        callbacks=[clock],
    )
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    found = {
        "seconds": clock.seconds,
        "losses": [entry["loss"] for entry in logged],
        "tokens": int(logged[-1]["num_tokens"]),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    Path(options.out).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
