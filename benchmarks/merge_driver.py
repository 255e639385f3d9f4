"""Merges from files to files: anonymous memory and time, beside mergekit's own run on the same files.

python benchmarks/merge_driver.py [--models 2 8 16] [--ties 3] [--dir DIR]

The files have the geometry of flan-t5-small (77 million numbers, 308 MB in float32 each, the largest tensor 66 MB) and
random values; 9 of them are written (2.8 GB), what is beyond that is a hard link. Every merge runs in a process of its
own, one thread, which says by how much its anonymous memory grew at most (sampled every 2 ms, from after the imports)
and how long the merge took, files on disk to files on disk, ours with sha256 of all inputs and fsync of the result.
mergekit's runs are `run_merge`, what its command line calls. Exits with 1 if a merge of ours takes more than twice the
largest tensor and 64 MB, more than 0.8 of mergekit's time for a linear merge of 8 models, or 0.3 for TIES.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

MB = 1e6
ROOM = 64 * MB
WHO = ("ours", "mergekit")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, nargs="+", default=[2, 8, 16])
    parser.add_argument("--ties", type=int, default=3)
    parser.add_argument("--dir")
    parser.add_argument("--child", nargs=4)
    asked = parser.parse_args()
    if asked.child:
        who, method, count, folder = asked.child
        print(json.dumps(_child(who, method, int(count), folder)))
        return
    with tempfile.TemporaryDirectory(dir=asked.dir) as folder:
        most = max(*asked.models, 8, asked.ties)
        largest = _write(folder, most)
        print(f"largest tensor {largest / MB:.0f} MB; bound {(2 * largest + ROOM) / MB:.0f} MB\n")
        failed = False
        times: dict[tuple[str, str, int], float] = {}
        # What is compared runs one right after the other, as the machine may get busier.
        rows = [(who, method, count) for method, count in (("linear", 8), ("ties", asked.ties)) for who in WHO]
        more = [("ours", method, count) for method in ("linear", "ties") for count in asked.models]
        rows += [row for row in more if row not in rows]
        print("| who | method | models | anonymous memory, MB | seconds |\n| --- | --- | ---: | ---: | ---: |")
        for who, method, count in rows:
            command = [sys.executable, __file__, "--child", who, method, str(count), folder]
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
            )
            if done.returncode:
                sys.exit(f"{who} {method} {count}:\n{done.stderr[-3000:]}")
            grown, seconds = json.loads(done.stdout.splitlines()[-1])
            times[who, method, count] = seconds
            over = who == "ours" and grown > 2 * largest + ROOM
            failed |= over
            mark = " (over the bound)" if over else ""
            print(f"| {who} | {method} | {count} | {grown / MB:.0f}{mark} | {seconds:.1f} |", flush=True)
        print()
        for method, count, bound in (("linear", 8, 0.8), ("ties", asked.ties, 0.3)):
            share = times["ours", method, count] / times["mergekit", method, count]
            failed |= share > bound
            print(f"{method}, {count} models: {share:.2f} x mergekit's time (bound {bound})")
        sys.exit(failed)


def _write(folder: str, count: int) -> int:
    """Writes the base and so many models into folders 0, 1, ...; returns the bytes of the largest tensor."""
    import torch
    import transformers
    from safetensors.torch import load_file, save_file

    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=32128,
        d_model=512,
        d_kv=64,
        d_ff=1024,
        num_layers=8,
        num_heads=6,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )
    base = os.path.join(folder, "0")
    transformers.T5ForConditionalGeneration(config).save_pretrained(base)
    tensors = load_file(os.path.join(base, "model.safetensors"))
    tensors["lm_head.weight"] = torch.randn_like(tensors["shared.weight"])
    save_file(tensors, os.path.join(base, "model.safetensors"), {"format": "pt"})
    for number in range(1, count + 1):
        place = os.path.join(folder, str(number))
        shutil.copytree(base, place, ignore=shutil.ignore_patterns("*.safetensors"))
        path = os.path.join(place, "model.safetensors")
        if number > 8:
            os.link(os.path.join(folder, str(number - 8), "model.safetensors"), path)
            continue
        torch.manual_seed(number)
        save_file({k: v + 1e-3 * torch.randn_like(v) for k, v in tensors.items()}, path, {"format": "pt"})
    return max(tensor.numel() * 4 for tensor in tensors.values())


def _child(who: str, method: str, count: int, folder: str) -> tuple[float, float]:
    """(by how much anonymous memory grew, seconds) of one merge in this process."""
    out = os.path.join(folder, f"out-{who}-{method}-{count}")
    run = _ours(method, count, folder, out) if who == "ours" else _mergekits(method, count, folder, out)
    before, most, ended = _anonymous(), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            most[0] = max(most[0], _anonymous())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    begun = time.monotonic()
    run()
    seconds = time.monotonic() - begun
    ended.set()
    watcher.join()
    shutil.rmtree(out)
    return most[0] - before, seconds


def _ours(method: str, count: int, folder: str, out: str) -> Callable[[], object]:
    import torch
    import transformers  # noqa: F401
    from transformers import AutoModelForSeq2SeqLM, T5ForConditionalGeneration  # noqa: F401

    from slmbench.catalog import default_catalog
    from slmbench.merging import MergeInput, MergePlan, merge
    from slmbench.models import resolve_model

    torch.set_num_threads(1)
    catalog = default_catalog()
    inputs = tuple(MergeInput(f"m{number}", os.path.join(folder, str(number))) for number in range(1, count + 1))
    base = resolve_model(os.path.join(folder, "0"), catalog) if method == "ties" else None
    parameters = {"density": 0.5} if method == "ties" else {}
    plan = MergePlan(name="made", base=base, inputs=inputs, method=method, parameters=parameters, out=out)
    return lambda: merge(plan, catalog)


def _mergekits(method: str, count: int, folder: str, out: str) -> Callable[[], object]:
    import torch
    import transformers  # noqa: F401
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    torch.set_num_threads(1)
    settings: dict[str, object] = {"weight": 1.0} | ({"density": 0.5} if method == "ties" else {})
    models = [{"model": os.path.join(folder, str(n)), "parameters": settings} for n in range(1, count + 1)]
    said: dict[str, object] = {"merge_method": method, "dtype": "float32", "models": models}
    if method == "ties":
        said["base_model"] = os.path.join(folder, "0")
    options = MergeOptions(copy_tokenizer=False, write_model_card=False)
    return lambda: run_merge(MergeConfiguration.model_validate(said), out, options)


def _anonymous() -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon:"))


if __name__ == "__main__":
    main()
