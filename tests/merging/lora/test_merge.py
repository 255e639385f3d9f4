"""Adapters merged into one: against float64, against peft where it is right, and what peft loads of it."""

from __future__ import annotations

import pytest

from slmbench.merging.lora import merge_adapters, read_lora, weight_change, write_lora
from slmbench.registry import Registry, marked


def _method(name):
    from importlib import import_module

    module = import_module(f"slmbench.merging.methods.{name}")
    return Registry(marked(vars(module), module.__file__, module.__name__, plugin=False)).get("merge_method", name)


def _dense(updates, weights):
    """name -> the weighted sum of all changes, in float64."""
    total = {}
    for one, weight in zip(updates, weights, strict=True):
        for name, f in one.modules.items():
            total[name] = total.get(name, 0) + weight * f.scaling * f.b.double() @ f.a.double()
    return total


@pytest.fixture
def three(adapter):
    """Adapters of three ranks, of which no two change the same modules, one by rsLoRA."""
    return [
        read_lora(adapter("a", seed=1)),
        read_lora(adapter("b", seed=2, r=6, use_rslora=True, target_modules=["q_proj", "k_proj"])),
        read_lora(adapter("c", seed=3, r=3, target_modules=["embed_tokens", "q_proj"])),
    ]


@pytest.mark.parametrize("rank", ["full", 2])
def test_a_written_adapter_is_loaded_by_peft_as_the_sum_of_all_changes(three, tiny, tmp_path, rank):
    import peft
    import torch

    weights = [0.7, -0.4, 1.2]
    merged = merge_adapters(_method("cat"), three, weights, rank=rank)
    write_lora(str(tmp_path / "merged"), merged)
    again = read_lora(str(tmp_path / "merged"))
    dense = _dense(three, weights)
    model = tiny()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    peft.PeftModel.from_pretrained(model, tmp_path / "merged").merge_and_unload()
    assert set(again.modules) == set(dense)
    for name, change in dense.items():
        wanted = change
        if rank != "full":
            u, s, v = torch.linalg.svd(change)
            wanted = u[:, :2] * s[:2] @ v[:2]
            assert merged.report[name]["error"] == pytest.approx(float(s[2:].norm() / s.norm()), abs=1e-6)
        for got in (weight_change(again.modules[name]), model.get_parameter(name) - before[name]):
            assert float((got.double() - wanted).norm()) <= 1e-5 * float(change.norm())
