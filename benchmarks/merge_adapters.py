"""LoRA adapters merged into one: how long it takes and how exact it is, beside peft's add_weighted_adapter.

python benchmarks/merge_adapters.py [--layers 30]

Time and memory: 8 adapters of rank 16 to one of rank 32, of SmolLM2-135M-Instruct's shapes (30 layers, 7 targets,
random factors), by the core of the factors and by peft's `svd` (its defaults), in one process. Exactness: on two layers
of the same widths, against float64; below "peft is wrong" stands what its result is off by, and ours. Exits with 1 if
the merge takes more than 2 s or a tenth of peft's time, or if a result of ours is off by more than 1e-5.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import peft
import torch
import transformers

from slmbench.errors import FileError
from slmbench.machine import peak_memory_bytes, reset_peak_memory
from slmbench.merging.lora import LoraUpdate, merge_adapters, read_lora, weight_change, write_lora
from slmbench.registry import find

ADAPTERS, RANK, TO_RANK = 8, 16, 32
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Changes = dict[str, torch.Tensor]


def base(layers: int, biased: bool = False) -> Any:
    """A model of SmolLM2-135M's layers. The embeddings are small: nothing here changes them. biased: of attention."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=layers,
        num_attention_heads=9,
        num_key_value_heads=3,
        attention_bias=biased,
    )
    return transformers.LlamaForCausalLM(config).eval()


def write_adapters(folder: str, layers: int, count: int, **settings: Any) -> list[str]:
    """Folders of adapters that peft saved, of random factors."""
    config = peft.LoraConfig(**{"r": RANK, "lora_alpha": 32, "target_modules": TARGETS, **settings})
    made = []
    for index in range(count):
        tuned = peft.get_peft_model(base(layers, config.lora_bias), config)
        torch.manual_seed(100 + index)
        for name, parameter in tuned.named_parameters():
            if parameter.requires_grad:
                noise = torch.randn_like(parameter) * 0.02
                parameter.data = parameter.data * (1 + noise) if "magnitude" in name else noise
        made.append(os.path.join(folder, f"adapter{index}"))
        tuned.save_pretrained(made[-1])
    return made


def loaded(model: Any, folders: Sequence[str]) -> Any:
    tuned = peft.PeftModel.from_pretrained(model, folders[0], "0")
    for index, folder in enumerate(folders[1:], 1):
        tuned.load_adapter(folder, str(index))
    return tuned


def peft_changes(model: Any, folders: Sequence[str], weights: Sequence[float], **how: Any) -> Changes:
    """name -> what peft's merged adapter changes of a parameter when it is merged into the base."""
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    tuned = loaded(model, folders)
    tuned.add_weighted_adapter([str(index) for index in range(len(folders))], list(weights), "merged", **how)
    tuned.set_adapter("merged")
    after = dict(tuned.merge_and_unload().named_parameters())
    return {name: after[name].detach() - value for name, value in before.items()}


def true_changes(updates: Sequence[LoraUpdate], weights: Sequence[float], weight_of: Mapping[str, Any]) -> Changes:
    """name -> the weighted sum of all changes, in float64."""
    total: Changes = {}
    for update, weight in zip(updates, weights, strict=True):
        for name, one in update.modules.items():
            if one.magnitude is None:
                change = one.scaling * (one.b.double() @ one.a.double())
            else:
                whole = weight_of[name].detach().double()
                turned = whole + one.scaling * (one.b.double() @ one.a.double())
                change = turned * (one.magnitude.double() / turned.norm(dim=1)).unsqueeze(1) - whole
            total[name] = total.get(name, torch.zeros(())) + weight * change
        for name, shift in update.shifts.items():
            total[name] = total.get(name, torch.zeros(())) + weight * shift.double()
    return total


def ties(changes: Sequence[torch.Tensor], weights: Sequence[float], density: float) -> torch.Tensor:
    """TIES by its formula (Yadav et al. 2023, section 4, with weights), in float64."""
    parts = []
    for change, weight in zip(changes, weights, strict=True):
        smallest = change.abs().flatten().topk(int(density * change.numel())).values[-1]
        parts.append(weight * torch.where(change.abs() >= smallest, change, 0.0))
    sign = torch.where(sum(parts) >= 0, 1.0, -1.0)
    agree = [part * sign > 0 for part in parts]
    total = sum(part * one for part, one in zip(parts, agree, strict=True))
    share = sum(weight * one for weight, one in zip(weights, agree, strict=True))
    return total / torch.where(share > 0, share, 1.0)


def off(got: Mapping[str, torch.Tensor], wanted: Changes) -> float:
    """The largest relative error of a parameter's change, Frobenius."""
    return max(float((got[name].double() - true).norm() / true.norm()) for name, true in wanted.items())


def speed(folder: str, layers: int) -> bool:
    folders = write_adapters(folder, layers, ADAPTERS)
    weights = [1 / ADAPTERS] * ADAPTERS
    method = find("merge_method", "linear")
    times, peak = [], 0
    for _ in range(3):
        reset_peak_memory()
        before = peak_memory_bytes()
        start = time.perf_counter()
        updates = [read_lora(one) for one in folders]
        read = time.perf_counter()
        merged = merge_adapters(method, updates, weights, rank=TO_RANK)
        done = time.perf_counter()
        write_lora(os.path.join(folder, "merged"), merged)
        times.append((done - read, read - start, time.perf_counter() - done))
        peak = max(peak, peak_memory_bytes() - before)
    ours, reading, writing = min(times)
    size = sum(os.path.getsize(os.path.join(one, "adapter_model.safetensors")) for one in folders)
    tuned = loaded(base(layers), folders)
    start = time.perf_counter()
    names = [str(index) for index in range(ADAPTERS)]
    tuned.add_weighted_adapter(names, weights, "merged", combination_type="svd", svd_rank=TO_RANK)
    theirs = time.perf_counter() - start
    head = f"{ADAPTERS} adapters of rank {RANK} to rank {TO_RANK}, {layers} layers, {len(TARGETS)} targets"
    print(f"{head}, {torch.get_num_threads()} threads")
    print(f"  merge            {ours:8.2f} s   (reading {reading:.2f} s, writing {writing:.2f} s)")
    print(f"  peft svd         {theirs:8.2f} s   ratio {ours / theirs:.4f}")
    print(f"  peak memory      {peak / 1e6:8.0f} MB above the start, of adapters of {size / 1e6:.0f} MB in all")
    errors = [float(one["error"]) for one in merged.report.values()]
    layer, state = "model.layers.0.mlp.down_proj", tuned.state_dict()
    a, b = (state[f"base_model.model.{layer}.lora_{part}.merged.weight"] for part in "AB")
    wanted = true_changes(updates, weights, {})[f"{layer}.weight"]
    values = torch.linalg.svdvals(wanted)
    best = float(values[TO_RANK:].norm() / values.norm())
    for who, change in (("ours", weight_change(merged.modules[f"{layer}.weight"])), ("peft", b @ a)):
        lost = float((change.double() - wanted).norm() / wanted.norm())
        print(f"  lost of {layer}, {who}: {lost:.7f}; the best of rank {TO_RANK}: {best:.7f}")
    print(f"  lost as reported: {min(errors):.4f} to {max(errors):.4f}")
    return ours <= 2 and ours <= 0.1 * theirs


def exactness(folder: str) -> bool:
    layers, pair = 2, [0.7, -0.4]
    held = True

    def line(label: str, settings: Mapping[str, Any], weights: Sequence[float], right: bool, **how: Any) -> None:
        nonlocal held
        place = tempfile.mkdtemp(dir=folder)
        folders = write_adapters(place, layers, len(weights), **settings)
        updates = [read_lora(one) for one in folders]
        model = base(layers, bool(settings.get("lora_bias")))
        weight_of = {name: value.detach().clone() for name, value in model.named_parameters()}
        kind, density = how["combination_type"], how.get("density")
        wanted = true_changes(updates, weights, weight_of)
        if density is not None:
            alone = [true_changes([one], [1.0], weight_of) for one in updates]
            wanted = {name: ties([one[name] for one in alone], weights, density) for name in wanted}
        theirs = off(peft_changes(model, folders, weights, **how), wanted)
        name = "ties" if density is not None else "cat" if kind == "cat" else "task_arithmetic"
        parameters = {} if density is None else {"density": density}
        method = find("merge_method", name)
        merged = merge_adapters(method, updates, weights, parameters=parameters, base=weight_of.__getitem__)
        write_lora(place, merged)
        again = read_lora(place)
        ours = off({**{name: weight_change(one) for name, one in again.modules.items()}, **again.shifts}, wanted)
        held &= ours < 1e-5 and (not right or theirs < 1e-5)
        print(f"  {label:50s} peft {theirs:9.1e}   ours {ours:9.1e}")

    full = {"combination_type": "svd", "svd_rank": 2 * RANK, "svd_full_matrices": False}
    biased = {"lora_bias": True, "target_modules": ["q_proj", "v_proj"]}
    whole = {"combination_type": "ties_svd", "svd_rank": 576, "density": 0.5, "svd_full_matrices": False}
    halves = [0.5, 0.5]
    print("relative error of the weight change against float64, two adapters; peft is right")
    line("cat", {}, pair, True, combination_type="cat")
    line("svd of full rank against the core", {}, pair, True, **full)
    print("peft is wrong, without an error")
    line("rsLoRA, cat: sqrt(new rank) too large", {"use_rslora": True}, halves, False, combination_type="cat")
    line("rsLoRA, svd: sqrt(new rank) too large", {"use_rslora": True}, halves, False, **full)
    line("linear: products of one's B and another's A", {}, halves, False, combination_type="linear")
    line("DoRA, svd: its lengths are left out", {"use_dora": True}, halves, False, **full)
    line("lora_bias, cat: the biases are left out", biased, halves, False, combination_type="cat")
    line(
        "ties_svd: signs elected, and averaged, unweighted", {"target_modules": ["q_proj"]}, [1.5, 0.5], False, **whole
    )
    start = write_adapters(tempfile.mkdtemp(dir=folder), 1, 1, init_lora_weights="pissa")[0]
    try:
        read_lora(start)
        print("  PiSSA was read as a plain LoRA")
        held = False
    except FileError as error:
        print(f"  PiSSA is refused: {str(error).partition(': ')[2][:84]} ...")
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=30)
    layers = parser.parse_args().layers
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        held = exactness(folder)
        held &= speed(folder, layers)
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
