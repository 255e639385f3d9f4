"""GGUF files of `slmbench export` against those of llama.cpp's own converter, and against the model that they hold.

python benchmarks/gguf_export.py --converter LLAMA_CPP [--model M] [--adapter DIR] [--out DIR]

LLAMA_CPP: a checkout of llama.cpp (or SLMBENCH_LLAMA_CPP says where), whose convert_hf_to_gguf.py and
convert_lora_to_gguf.py are run on the merged folder and on the adapter. Without --adapter a random LoRA of rank 8 is
put on the model. Prints sizes, the keys and tensors that differ, and, where llama-cpp-python is installed, how many of
64 greedy tokens are those of the merged model in float32.

Exits with 1 if a size is further than 1% from the converter's, or if F32 goes on with another token.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from slmbench.catalog import default_catalog
from slmbench.deployment import export_adapter
from slmbench.models import load_model, resolve_model
from slmbench.workflow.quiet import quiet_libraries

HERE = Path(__file__).parent
FAR = 0.01
TOKENS = 64
PROMPTS = (
    "The capital of France is",
    "Photosynthesis is the process by which",
    "def fibonacci(n):\n",
    "Question: A train goes 60 km in 45 minutes. How fast is it?\nAnswer:",
    "<|im_start|>user\nWhat is a fever?<|im_end|>\n<|im_start|>assistant\n",
)
# What our files leave out or say of their own: where the model is from, and by what program a text is shown.
ABOUT = tuple(f"general.{key}" for key in "name basename finetune base_model. license size tags".split())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    converter = os.environ.get("SLMBENCH_LLAMA_CPP")
    parser.add_argument("--converter", type=Path, default=converter, required=converter is None)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as made:
        out = asked.out or Path(made)
        adapter = asked.adapter or random_adapter(asked.model, out / "random")
        return measure(asked.converter, asked.model, adapter, out)


def measure(converter: Path, model: str, adapter: Path, out: Path) -> int:
    given: Any = {"out": str(out), "model": model, "format": None if (adapter / "training.json").exists() else "chat"}
    catalog = default_catalog()
    merged = export_adapter(str(adapter), "merged", catalog, dtype="float32", **given).folder
    began = time.perf_counter()
    kinds = ["f32", "f16", "bf16", "q8_0", "q4_k_m"]
    if importlib.util.find_spec("llama_cpp") is None:
        kinds.remove("q4_k_m")
    ours = export_adapter(str(adapter), "gguf", catalog, quantize=kinds, **given)
    print(f"export --to gguf --quantize {','.join(kinds)}: {time.perf_counter() - began:.1f} s, merging included")
    failed = False
    for said in ours.record["gguf"]:
        path = Path(ours.folder, said["file"])
        if said["kind"].startswith("Q4"):
            print(
                f"{said['kind']}: {said['bytes']:,} bytes, {said['bits_a_weight']:.2f} bits a weight, {said['packed']}"
            )
            continue
        theirs = out / f"converter-{said['kind']}.gguf"
        run(converter / "convert_hf_to_gguf.py", merged, "--outtype", said["kind"].lower(), "--outfile", str(theirs))
        failed |= told(said["kind"], path, theirs)
    failed |= lora(converter, adapter, merged, given, out)
    if importlib.util.find_spec("llama_cpp") is None:
        print("llama-cpp-python is not installed: no file is run")
        return int(failed)
    return int(failed | goes_on(merged, ours))


def told(kind: str, ours: Path, theirs: Path) -> bool:
    """Prints how two files differ; whether the sizes do by more than FAR."""
    sizes = [path.stat().st_size for path in (ours, theirs)]
    print(f"{kind}: {sizes[0]:,} bytes, the converter's {sizes[1]:,}: {sizes[0] / sizes[1] - 1:+.4%}")
    one, other = contents(ours), contents(theirs)
    for key in sorted(one[0].keys() | other[0].keys()):
        values = [keys.get(key, "-") for keys in (one[0], other[0])]
        if values[0] != values[1] and not key.startswith(ABOUT):
            print(f"  {key}: {short(values[0])} | converter: {short(values[1])}")
    odd = sorted(one[1].keys() ^ other[1].keys())
    differ = [name for name in one[1].keys() & other[1].keys() if not same(one[1][name], other[1][name])]
    print(f"  tensors: {len(one[1])}, of which {len(differ)} differ; in one file alone: {odd or 'none'}")
    for name in sorted(differ)[:5]:
        print(f"    {name}: {one[1][name].tensor_type.name} | converter: {other[1][name].tensor_type.name}")
    return abs(sizes[0] / sizes[1] - 1) > FAR


def contents(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    import gguf

    reader = gguf.GGUFReader(path)
    keys = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    return keys, {tensor.name: tensor for tensor in reader.tensors}


def same(one: Any, other: Any) -> bool:
    return (
        one.tensor_type == other.tensor_type
        and one.data.shape == other.data.shape
        and bool((one.data == other.data).all())
    )


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 70 else f"{text[:60]}... ({len(value)})"


def lora(converter: Path, adapter: Path, base: str, given: dict[str, Any], out: Path) -> bool:
    """The adapter alone. The merged folder stands in for the base's: only its config is read."""
    ours = export_adapter(str(adapter), "gguf-lora", default_catalog(), **given)
    theirs = out / "converter-lora.gguf"
    run(converter / "convert_lora_to_gguf.py", str(adapter), "--base", base, "--outfile", str(theirs))
    print("The converter takes an rsLoRA for a LoRA: alpha / rank, where training had alpha / sqrt(rank).")
    return told("LoRA", Path(ours.folder, ours.record["gguf"][0]["file"]), theirs)


def goes_on(merged: str, ours: Any) -> bool:
    """Prints how many greedy tokens of each file are the merged model's; whether any of F32 is another."""
    import torch

    from tests.llama_cpp_model import llama_cpp_model

    loaded = load_model(resolve_model(merged, default_catalog()), dtype="float32")
    wanted, ids = [], [loaded.tokenizer.encode(text, add_special_tokens=False) for text in PROMPTS]
    for given in ids:
        with torch.no_grad():
            made = loaded.model.generate(
                input_ids=torch.tensor([given]),
                attention_mask=torch.ones(1, len(given), dtype=torch.long),
                max_new_tokens=TOKENS,
                min_new_tokens=TOKENS,
                do_sample=False,
                repetition_penalty=1.0,
                eos_token_id=None,
            )
        wanted.append(made[0, len(given) :].tolist())
    failed = False
    for said in ours.record["gguf"]:
        if said["kind"] not in ("F32", "F16", "Q4_K_M"):
            continue
        with llama_cpp_model(os.path.join(ours.folder, said["file"])) as model:
            same_ids = sum(model.ids(text) == given for text, given in zip(PROMPTS, ids, strict=True))
            first = [
                next(
                    (i for i, (a, b) in enumerate(zip(model.greedy(given, TOKENS), said_so, strict=True)) if a != b),
                    TOKENS,
                )
                for given, said_so in zip(ids, wanted, strict=True)
            ]
        print(
            f"{said['kind']} in llama.cpp: {same_ids} of {len(ids)} prompts cut alike; greedy tokens that are the "
            f"merged model's in float32, of {TOKENS}: {', '.join(map(str, first))}"
        )
        failed |= said["kind"] == "F32" and min(first) < TOKENS
    return failed


def random_adapter(model: str, folder: Path) -> Path:
    import peft
    import torch

    torch.manual_seed(0)
    loaded = load_model(resolve_model(model, default_catalog()))
    settings = peft.LoraConfig(
        task_type="CAUSAL_LM", r=8, lora_alpha=16, use_rslora=True, target_modules="all-linear", init_lora_weights=False
    )
    tuned = peft.get_peft_model(loaded.model, settings)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:  # So that the model still writes English.
            parameter.data *= 0.02
    tuned.save_pretrained(folder)
    return folder


def run(script: Path, *arguments: str) -> None:
    done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{script.name} failed:\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    sys.exit(main())
