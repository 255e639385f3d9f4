"""Real tokens a second and peak memory of `train_adapter` and of a plain trl script (trl_peer.py), in one run.

    SLMBENCH_DATA=mirror python benchmarks/training_speed.py [--model PATH] [--only 6 | 30 | own]

SmolLM2-135M's geometry with random weights, 6 of its layers and all 30; the mirror's 400 GSM8K rows, question and
worked answer, plain format; batch 8, LoRA of rank 16 on all linear layers, a constant rate of 2e-4. SmolLM2's own
tokenizer is not needed: a byte-level BPE of 32,768 pieces with single digits is trained on the mirror's texts, and
gives GSM8K rows of about 190 tokens. Both sides get the same rows in the same order from the same first weights, each
in a process of its own, in turns; a round's speed is that of all its steps but the first, and of two rounds the faster
counts. Real tokens are those of prompt and answer: padding doesn't count. trl has its defaults but for the dtype:
float32, mixed (its own default) and bfloat16 weights. Where `--model` or SLMBENCH_SMOLLM2 names SmolLM2-135M-Instruct,
a folder or a GGUF file, the same is done with its own weights and tokenizer (`own`).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slmbench.catalog import default_catalog
from slmbench.console import watching
from slmbench.models import resolve_model
from slmbench.recipe import Recipe, load_recipe
from slmbench.training import prepare_training, train_adapter
from slmbench.workflow.quiet import quiet_libraries

ROUNDS = 2
PIECES = 32_768
HERE = Path(__file__).parent
RECIPE = """\
summary: GSM8K on a model of SmolLM2-135M's geometry.
model: {folder}
format: plain
adapters:
  gsm8k: {{tasks: [gsm8k]}}
lora: {{rank: 16, alpha: 32, targets: all-linear}}
optim: {{lr: 2e-4, batch: 8, steps: {steps}, warmup_steps: 0, schedule: constant}}
shots: 0
max_tokens: 1024
dtype: {dtype}
log_every_steps: 1
seed: 0
evaluation: {{tasks: [gsm8k]}}
"""
# layers, or own for a real model's weights -> the dtypes of ours, those of trl's, and the steps of a run.
OURS = {"6": ("float32", "bfloat16"), "30": ("float32",), "own": ("float32",)}
TRL = {"6": ("float32", "mixed", "bfloat16"), "30": ("float32",), "own": ("float32",)}
STEPS = {"6": 6, "30": 3, "own": 3}
AT_LEAST = {"6": 4.0, "30": 2.0, "own": 2.0}


def texts(mirror: Path) -> Iterator[str]:
    """Every text of a mirror."""

    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            for part in value.values() if isinstance(value, dict) else value:
                yield from walk(part)

    for path in sorted(mirror.glob("*/*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield from walk(json.loads(line))


def tokenizer_of(mirror: Path) -> Any:
    """A byte-level BPE trained on a mirror's texts, with single digits."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), split])
    bpe.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES, special_tokens=[end], initial_alphabet=split.alphabet(), show_progress=False
    )
    bpe.train_from_iterator(texts(mirror), trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=end, pad_token=end)


def build_models(folder: Path, mirror: Path) -> None:
    """Writes the models, one folder for each number of layers."""
    import torch
    import transformers

    tokenizer = tokenizer_of(mirror)
    for layers in ("6", "30"):
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            vocab_size=49152,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=int(layers),
            num_attention_heads=9,
            num_key_value_heads=3,
            max_position_embeddings=8192,
            rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
        )
        place = folder / layers
        transformers.LlamaForCausalLM(config).save_pretrained(place)
        tokenizer.save_pretrained(place)


def _named(layers: str) -> str:
    return "own weights" if layers == "own" else f"{layers} layers"


def recipe_of(folder: Path, layers: str, dtype: str) -> Recipe:
    path = folder / f"speed-{layers}-{dtype}.yaml"
    path.write_text(RECIPE.format(folder=folder / layers, steps=STEPS[layers], dtype=dtype), encoding="utf-8")
    return load_recipe(str(path), default_catalog())


def write_rows(folder: Path, layers: str) -> list[int]:
    """Writes the rows for trl, in the order of our steps; returns the real tokens of each of our steps."""
    recipe = recipe_of(folder, layers, "float32")
    catalog = default_catalog()
    prepared = prepare_training(recipe, "gsm8k", catalog, resolve_model(recipe.spec.model, catalog))
    tokens = []
    with (folder / f"rows-{layers}.jsonl").open("w", encoding="utf-8") as file:
        for batch in prepared.plan.batches:
            rows = [prepared.rows[i] for i in batch]
            tokens.append(sum(row.length for row in rows))
            for row in rows:
                prompt, answer = (prepared.tokenizer.decode(ids) for ids in (row.prompt, row.answer[:-1]))
                file.write(json.dumps({"prompt": prompt, "completion": answer}) + "\n")
    return tokens


def run_ours(folder: Path, layers: str, dtype: str, out: Path) -> None:
    """One training in this process, by the product's own path; its seconds, losses and peak go into `out`."""
    quiet_libraries()
    catalog = default_catalog()
    recipe = recipe_of(folder, layers, dtype)
    ends: list[float] = []

    with tempfile.TemporaryDirectory() as place:
        source = resolve_model(recipe.spec.model, catalog)
        with watching(lambda *_: ends.append(time.perf_counter())):
            trained = train_adapter(recipe, "gsm8k", catalog, source, out=place)
        record = json.loads(Path(trained, "training.json").read_text(encoding="utf-8"))
    found = {
        "seconds": [after - before for before, after in itertools.pairwise(ends)],
        "losses": [point["loss"] for point in record["curves"]["train"]],
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    out.write_text(json.dumps(found), encoding="utf-8")


def run_child(folder: Path, side: str, layers: str, dtype: str) -> dict[str, Any]:
    out = folder / f"{side}-{layers}-{dtype}.json"
    if side == "slmbench":
        command = [str(HERE / "training_speed.py"), "ours", str(folder), layers, dtype, str(out)]
    else:
        rows, steps = folder / f"rows-{layers}.jsonl", str(STEPS[layers])
        peer = [str(folder / layers), str(rows), str(out)]
        command = [str(HERE / "trl_peer.py"), *peer, "--steps", steps, "--dtype", dtype]
    log = folder / "log.txt"
    with log.open("w", encoding="utf-8") as file:
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache")}
        done = subprocess.run([sys.executable, *command], stdout=file, stderr=file, env=environment)
    if done.returncode:
        sys.exit(f"{side}, {_named(layers)}, {dtype}: exit code {done.returncode}\n{log.read_text()[-2000:]}")
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def compare(folder: Path, layers: str) -> bool:
    """Runs both sides in turns, prints their lines, and returns whether every bound is kept."""
    tokens = write_rows(folder, layers)
    speeds: dict[tuple[str, str], list[float]] = {}
    runs: dict[tuple[str, str], dict[str, Any]] = {}
    for _ in range(ROUNDS):
        for side, dtypes in (("slmbench", OURS[layers]), ("trl", TRL[layers])):
            for dtype in dtypes:
                run = runs[side, dtype] = run_child(folder, side, layers, dtype)
                # The clock of ours starts when its first step ends.
                timed = run["seconds"] if side == "slmbench" else run["seconds"][1:]
                assert len(timed) == len(tokens) - 1
                speeds.setdefault((side, dtype), []).append(sum(tokens[1:]) / sum(timed))
    if runs["trl", "float32"]["tokens"] != sum(tokens):
        print(f"trl saw {runs['trl', 'float32']['tokens']} tokens, slmbench {sum(tokens)}; not the same rows")
        return False
    speed = {key: max(values) for key, values in speeds.items()}
    for (side, dtype), values in speeds.items():
        peak = runs[side, dtype]["peak_bytes"] / 2**30
        shown = ", ".join(f"{value:.0f}" for value in values)
        print(f"{_named(layers)}, {dtype}, {side}: {shown} real tokens/s in rounds; peak {peak:.2f} GiB")
    kept = []

    def bound(name: str, value: float, at_least: float | None, at_most: float | None, form: str) -> None:
        wanted = f"at least {at_least:g}" if at_least is not None else f"at most {at_most:g}"
        kept.append(value >= at_least if at_least is not None else value <= float(at_most or 0))
        print(f"{_named(layers)}, {name}: {value:{form}} ({wanted}){'' if kept[-1] else ' NOT KEPT'}")

    ratio = speed["slmbench", "float32"] / speed["trl", "float32"]
    bound("float32, slmbench / trl", ratio, AT_LEAST[layers], None, ".2f")
    if "bfloat16" in OURS[layers]:
        best = max(TRL[layers], key=lambda dtype: speed["trl", dtype])
        own = max(OURS[layers], key=lambda dtype: speed["slmbench", dtype])
        ratio = speed["slmbench", own] / speed["trl", best]
        bound(f"each its best dtype, slmbench {own} / trl {best}", ratio, 6.0, None, ".2f")
    pairs = list(zip(runs["slmbench", "float32"]["losses"], runs["trl", "float32"]["losses"], strict=True))
    print(
        f"{_named(layers)}, float32, losses by step: "
        + ", ".join(f"{ours:.6f} / {theirs:.6f}" for ours, theirs in pairs)
    )
    bound("float32, largest difference of a step's loss", max(abs(a - b) for a, b in pairs), None, 1e-4, ".1e")
    for dtype in OURS[layers]:
        share = runs["slmbench", dtype]["peak_bytes"] / runs["trl", dtype]["peak_bytes"]
        bound(f"{dtype}, peak memory slmbench / trl", share, None, 1.0, ".2f")
    return all(kept)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", metavar="PATH", default=os.environ.get("SLMBENCH_SMOLLM2"), help="a real model")
    parser.add_argument("--only", choices=OURS)
    arguments = parser.parse_args()
    mirror = os.environ.get("SLMBENCH_DATA")
    if not mirror:
        sys.exit("set SLMBENCH_DATA to a mirror with gsm8k")
    quiet_libraries()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        build_models(folder, Path(mirror))
        if arguments.model:
            os.symlink(resolve_model(arguments.model, default_catalog()).location, folder / "own")
        there = [layers for layers in OURS if layers != "own" or arguments.model]
        kept = [compare(folder, layers) for layers in there if arguments.only in (None, layers)]
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["ours"]:
        run_ours(Path(sys.argv[2]), sys.argv[3], sys.argv[4], Path(sys.argv[5]))
    else:
        main()
