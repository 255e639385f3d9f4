"""How long it takes to exchange adapters on a real model, beside peft, and what several cost that share one base.

    SLMBENCH_DATA=mirror SLMBENCH_SMOLLM2=SmolLM2-135M-Instruct.Q4_1.gguf python benchmarks/adapter_swap.py

Five random adapters of rank 128 on all seven projections of SmolLM2-135M-Instruct, in float32. A swap is timed from one
adapter that is on to the next, over three rounds of the five: ours from an `AdapterBank`, peft's `set_adapter` from a
PeftModel that holds all five, peft's `hotswap_adapter` from the next one's folder. The logits of each are held against
those of a model that was loaded with that adapter alone.

Then the five are evaluated on the same items: from one bank, swaps included, and each attached to a loaded model of its
own, whose loading is not counted. The two take turns, so that what else the machine does hits both; seconds of CPU,
which that doesn't change, stand beside those of the clock.
"""

from __future__ import annotations

import copy
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slmbench.adapters import AdapterBank
from slmbench.catalog import default_catalog
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.models import LoadedModel, attach_adapter, load_model, resolve_model
from slmbench.task import Settings, load_task
from slmbench.workflow.quiet import quiet_libraries

MODEL = "smollm2-135m-instruct"
SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
NAMES = ("one", "two", "three", "four", "five")
RANK, ROUNDS = 128, 3
LIMIT_MS, LIMIT_RATIO = 50, 1.05
ITEMS, TOKENS = 6, 24


def make_adapters(loaded: LoadedModel, folder: Path) -> dict[str, str]:
    """name -> the folder of a random adapter."""
    import peft
    import torch

    found = {}
    for seed, name in enumerate(NAMES):
        torch.manual_seed(seed)
        config = peft.LoraConfig(
            task_type="CAUSAL_LM", r=RANK, lora_alpha=RANK, target_modules=SEVEN, init_lora_weights=False
        )
        model = peft.get_peft_model(copy.deepcopy(loaded.model), config)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "lora_" in key:
                    parameter.mul_(0.1)
        model.peft_config["default"].base_model_name_or_path = loaded.source.id
        model.save_pretrained(folder / name)
        found[name] = str(folder / name)
    return found


def logits(model: Any) -> Any:
    """(1, 24, vocabulary) of fixed tokens."""
    import torch

    with torch.no_grad():
        return model(input_ids=torch.arange(100, 124)[None]).logits.clone()


def time_swaps(swap: Callable[[str], Any], wanted: dict[str, Any]) -> tuple[list[float], float]:
    """(milliseconds of each swap, the largest difference of a logit). swap: the model with an adapter on it."""
    times, off = [], 0.0
    swap(NAMES[-1])
    for turn in range(ROUNDS):
        for name in NAMES:
            begun = time.perf_counter()
            model = swap(name)
            times.append((time.perf_counter() - begun) * 1000)
            if turn == 0:
                off = max(off, float((logits(model) - wanted[name]).abs().max()))
    return times, off


def time_set_adapter(base: Any, folders: dict[str, str], wanted: dict[str, Any]) -> tuple[list[float], float]:
    """As `time_swaps`, of peft's model that holds all adapters."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(base, folders[NAMES[0]], adapter_name=NAMES[0]).eval()
    for name in NAMES[1:]:
        model.load_adapter(folders[name], name)

    def swap(name: str) -> Any:
        model.set_adapter(name, inference_mode=True)
        return model

    return time_swaps(swap, wanted)


def time_hotswap(base: Any, folders: dict[str, str], wanted: dict[str, Any]) -> tuple[list[float], float]:
    """As `time_swaps`, of peft's model whose one adapter is filled with the numbers of another folder."""
    from peft import PeftModel
    from peft.utils.hotswap import hotswap_adapter

    model = PeftModel.from_pretrained(base, folders[NAMES[0]]).eval()

    def swap(name: str) -> Any:
        hotswap_adapter(model, folders[name], adapter_name="default")
        return model

    return time_swaps(swap, wanted)


def swaps(loaded: LoadedModel, folders: dict[str, str]) -> None:
    wanted = {}
    with AdapterBank(loaded) as bank:
        for name, folder in folders.items():
            wanted[name] = logits(attach_adapter(_again(loaded), folder).model)
            bank.add(name, folder)
        ours, ours_off = time_swaps(lambda name: bank.swap(name).model, wanted)
        held = bank.bytes
    theirs, theirs_off = time_set_adapter(_again(loaded).model, folders, wanted)
    hot, hot_off = time_hotswap(_again(loaded).model, folders, wanted)
    print(f"swap, rank {RANK}, {len(SEVEN)} targets, 5 adapters in memory ({held / 1e6:.0f} MB):")
    rows = (
        ("bank.swap", ours, ours_off),
        ("peft set_adapter", theirs, theirs_off),
        ("peft hotswap_adapter", hot, hot_off),
    )
    for name, times, off in rows:
        print(f"  {name:21} median {statistics.median(times):7.2f} ms, most {max(times):7.2f} ms, logits off {off:.1g}")
    ratio = statistics.median(ours) / statistics.median(theirs)
    hotter = statistics.median(ours) / statistics.median(hot)
    verdict = "held" if max(ours) < LIMIT_MS else "MISSED"
    print(f"  under {LIMIT_MS} ms: {verdict}; {ratio:.2f}x set_adapter, {hotter:.3f}x hotswap_adapter")


def _again(loaded: LoadedModel) -> LoadedModel:
    from attrs import evolve

    return evolve(loaded, model=copy.deepcopy(loaded.model))


def passes(loaded: LoadedModel, folders: dict[str, str], out: str) -> None:
    settings = Settings(shots=0, max_tokens=TOKENS)
    tasks, _ = settings.of([load_task(name, default_catalog()) for name in ("hellaswag", "gsm8k")])

    def timed(work: Callable[[], Any]) -> tuple[float, float, list[Any]]:
        wall, cpu = time.perf_counter(), time.process_time()
        runs = work()
        return time.perf_counter() - wall, time.process_time() - cpu, [run.record["metrics"] for run in runs]

    def evaluated(model: LoadedModel, who: str) -> list[Any]:
        options = EvaluationOptions(out=f"{out}/{who}", limit=ITEMS, format="chat", batch=8)
        return evaluate_tasks(model, tasks, options)

    evaluated(loaded, "warm")
    totals = {"bank": [0.0, 0.0], "alone": [0.0, 0.0]}
    with AdapterBank(loaded) as bank:
        for name, folder in folders.items():
            bank.add(name, folder)
        for at, (name, folder) in enumerate(folders.items()):
            alone = attach_adapter(_again(loaded), folder)
            turns: list[tuple[str, Callable[[], Any]]] = [
                ("bank", lambda name=name: evaluated(bank.swap(name), f"bank-{name}")),  # type: ignore[misc]
                ("alone", lambda name=name, alone=alone: evaluated(alone, f"alone-{name}")),  # type: ignore[misc]
            ]
            said = []
            for who, work in turns if at % 2 else reversed(turns):
                wall, cpu, metrics = timed(work)
                totals[who][0] += wall
                totals[who][1] += cpu
                said.append(metrics)
            if said[0] != said[1]:
                sys.exit(f"adapter {name}: the bank's numbers are not those of a model of its own")
    (wall, cpu), (own_wall, own_cpu) = totals["bank"], totals["alone"]
    print(f"5 adapters, hellaswag and gsm8k, {ITEMS} items each; metrics are equal:")
    print(f"  one bank   {wall:6.1f} s, {cpu:6.1f} s of CPU")
    print(f"  own passes {own_wall:6.1f} s, {own_cpu:6.1f} s of CPU")
    verdict = "held" if cpu / own_cpu <= LIMIT_RATIO else "MISSED"
    print(f"  ratio {wall / own_wall:.3f} of the clock, {cpu / own_cpu:.3f} of CPU; {LIMIT_RATIO} at most: {verdict}")


def main() -> None:
    for name in ("SLMBENCH_DATA", "SLMBENCH_SMOLLM2"):
        if not os.environ.get(name):
            sys.exit(f"set {name}")
    quiet_libraries()
    loaded = load_model(resolve_model(MODEL, default_catalog()))
    with tempfile.TemporaryDirectory() as place:
        folders = make_adapters(loaded, Path(place))
        swaps(loaded, folders)
        passes(loaded, folders, f"{place}/out")


if __name__ == "__main__":
    main()
