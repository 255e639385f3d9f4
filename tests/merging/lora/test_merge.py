"""Adapters merged into one: against float64, against peft where it is right, and what peft loads of it."""

from __future__ import annotations

import pytest

from slmbench.errors import UsageError
from slmbench.merging import merge_tensors
from slmbench.merging.lora import merge_adapters, read_lora, weight_change, write_lora
from slmbench.registry import find


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
    merged = merge_adapters(find("merge_method", "cat"), three, weights, rank=rank)
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


def _relative(got, wanted):
    return float((got.double() - wanted).norm() / wanted.norm())


def _peft_merged(folders, tiny, weights, **how):
    """name -> the change that peft's add_weighted_adapter makes of adapters."""
    import peft

    model = tiny()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    names = [f"n{i}" for i in range(len(folders))]
    tuned = peft.PeftModel.from_pretrained(model, folders[0], names[0])
    for name, folder in zip(names[1:], folders[1:], strict=True):
        tuned.load_adapter(folder, name)
    tuned.add_weighted_adapter(names, weights, "merged", **how)
    tuned.set_adapter("merged")
    after = tuned.merge_and_unload()
    changes = {name: value.detach() - before[name] for name, value in after.named_parameters()}
    return {name: change for name, change in changes.items() if float(change.abs().max())}


@pytest.mark.parametrize("how", [{"combination_type": "cat"}, {"combination_type": "svd", "svd_rank": 10}])
@pytest.mark.parametrize("ours", ["cat", "task_arithmetic"])
def test_where_peft_is_right_we_say_the_same(adapter, tiny, how, ours):
    folders = [adapter("a", seed=1), adapter("b", seed=2, r=6, lora_alpha=3)]
    weights = [0.7, -0.4]
    theirs = _peft_merged(folders, tiny, weights, **how)
    merged = merge_adapters(find("merge_method", ours), [read_lora(folder) for folder in folders], weights)
    assert set(theirs) == set(merged.modules)
    for name, factors in merged.modules.items():
        assert _relative(weight_change(factors), theirs[name].double()) < 1e-5


@pytest.mark.parametrize(
    ("settings", "how", "off"),
    [
        # sqrt(r) too large, r being the new rank.
        ({"use_rslora": True}, {"combination_type": "cat"}, 8**0.5 - 1),
        ({"use_rslora": True}, {"combination_type": "svd", "svd_rank": 8}, 8**0.5 - 1),
        # Products of one adapter's B with the other's A.
        ({}, {"combination_type": "linear"}, None),
    ],
    ids=["rslora cat", "rslora svd", "linear"],
)
def test_where_peft_is_wrong_ours_is_the_sum_in_float64(adapter, tiny, settings, how, off):
    folders = [adapter("a", seed=1, **settings), adapter("b", seed=2, **settings)]
    updates = [read_lora(folder) for folder in folders]
    dense = _dense(updates, [0.5, 0.5])
    theirs = _peft_merged(folders, tiny, [0.5, 0.5], **how)
    merged = merge_adapters(find("merge_method", "linear"), updates, [0.5, 0.5])
    for name, wanted in dense.items():
        assert _relative(weight_change(merged.modules[name]), wanted) < 1e-6
        wrong = _relative(theirs[name], wanted)
        assert wrong == pytest.approx(off, abs=1e-4) if off is not None else wrong > 0.5


def test_the_average_of_factors_is_a_quarter_of_the_product_of_sums(adapter):
    updates = [read_lora(adapter("a", seed=1)), read_lora(adapter("b", seed=2))]
    method = find("merge_method", "average_of_factors")
    merged = merge_adapters(method, updates, [1.0, 1.0])
    assert method.summary.startswith("Wrong on purpose")
    for name, factors in merged.modules.items():
        a, b = (one.modules[name] for one in updates)
        wanted = a.scaling * (a.b + b.b).double() @ (a.a + b.a).double() / 4
        assert _relative(weight_change(factors), wanted) < 1e-6
    other = read_lora(adapter("c", r=3))
    with pytest.raises(UsageError, match=r"ranks \[3, 4\]; task_arithmetic and cat take any"):
        merge_adapters(method, [updates[0], other], [1.0, 1.0])


@pytest.mark.parametrize("name", ["linear", "task_arithmetic", "cat", "core_ties", "ties", "average_of_factors"])
def test_one_adapter_of_weight_one_stays_what_it_is(adapter, name):
    update = read_lora(adapter("a", seed=1))
    parameters = {"density": 1.0} if name.endswith("ties") else {}
    merged = merge_adapters(find("merge_method", name), [update], [1.0], parameters=parameters)
    for key, wanted in _dense([update], [1.0]).items():
        assert _relative(weight_change(merged.modules[key]), wanted) < 1e-6


@pytest.mark.parametrize("name", ["linear", "cat", "core_ties", "ties"])
def test_the_order_of_adapters_does_not_matter(three, name):
    weights = [0.5, 1.0, 0.8]
    method = find("merge_method", name)
    one = merge_adapters(method, three, weights).modules
    other = merge_adapters(method, three[::-1], weights[::-1]).modules
    for key, factors in one.items():
        assert _relative(weight_change(other[key]), weight_change(factors).double()) < 1e-5


def test_ties_on_cores_is_ties_in_the_bases_of_all_changes(adapter):
    """Against numpy: balanced factors, bases by SVD, TIES by its formula."""
    import numpy as np

    updates = [read_lora(adapter("a", seed=1)), read_lora(adapter("b", seed=2, r=6))]
    merged = merge_adapters(
        find("merge_method", "core_ties"), updates, [1.0, 0.5], parameters={"density": 0.5, "lambda": 0.8}
    )
    for name, factors in merged.modules.items():
        changes, lefts, rights = [], [], []
        for one in updates:
            f = one.modules[name]
            changes.append(f.scaling * f.b.double().numpy() @ f.a.double().numpy())
            u, s, v = np.linalg.svd(changes[-1])
            lefts.append(u[:, : f.rank] * np.sqrt(s[: f.rank]))
            rights.append(v[: f.rank].T * np.sqrt(s[: f.rank]))
        width = sum(one.modules[name].rank for one in updates)
        left = np.linalg.svd(np.hstack(lefts))[0][:, :width]
        right = np.linalg.svd(np.hstack(rights))[0][:, :width]
        parts = []
        for change, weight in zip(changes, [1.0, 0.5], strict=True):
            core = left.T @ change @ right
            smallest = np.sort(np.abs(core).ravel())[core.size - core.size // 2]
            parts.append(weight * np.where(np.abs(core) >= smallest, core, 0))
        sign = np.where(sum(parts) >= 0, 1, -1)
        agreeing = [part * sign > 0 for part in parts]
        total = sum(np.where(agree, part, 0) for agree, part in zip(agreeing, parts, strict=True))
        share = sum(weight * agree for agree, weight in zip(agreeing, [1.0, 0.5], strict=True))
        wanted = left @ (0.8 * total / np.where(share > 0, share, 1)) @ right.T
        assert np.linalg.norm(weight_change(factors).numpy() - wanted) < 1e-5 * np.linalg.norm(wanted)


@pytest.mark.parametrize("rank", ["full", 3])
def test_a_method_of_single_weights_is_cut_after_it_and_says_what_was_lost(three, rank):
    import torch

    method, weights, parameters = find("merge_method", "ties"), [1.0, 0.5, 2.0], {"density": 0.3}
    merged = merge_adapters(method, three, weights, parameters=parameters, rank=rank)
    for name, factors in merged.modules.items():
        shape = factors.shape
        changes = [weight_change(u.modules[name]) if name in u.modules else torch.zeros(shape) for u in three]
        whole = merge_tensors("ties", changes, torch.zeros(shape), weights, density=0.3).double()
        u, s, v = torch.linalg.svd(whole, full_matrices=False)
        kept = len(s) if rank == "full" else rank
        wanted = u[:, :kept] * s[:kept] @ v[:kept]
        said = merged.report[name]
        assert _relative(weight_change(factors), wanted) < 1e-5
        assert said["error"] == pytest.approx(float(s[kept:].norm() / s.norm()), abs=1e-6)
        assert {"density", "sign_conflicts", "rank"} <= set(said)


def test_what_needs_the_base_is_refused_by_name_without_it_and_right_with_it(adapter, tiny):
    import torch

    method = find("merge_method", "task_arithmetic")
    updates = [
        read_lora(adapter("a", seed=1, use_dora=True)),
        read_lora(adapter("b", seed=2, modules_to_save=["lm_head"])),
    ]
    with pytest.raises(UsageError, match=r"'a' \(.*\) changes model\.layers\.0\.\S+ by DoRA.*name the base"):
        merge_adapters(method, updates, [0.5, 0.5])
    with pytest.raises(UsageError, match=r"'b' \(.*\) changes lm_head\.weight by modules_to_save.*name the base"):
        merge_adapters(method, updates[1:], [0.5])
    base = dict(tiny().named_parameters())
    merged = merge_adapters(method, updates, [0.5, 0.25], base=lambda name: base[name].detach())
    for name, factors in merged.modules.items():
        wanted = 0.5 * weight_change(updates[0].modules[name], base[name].detach())
        wanted = wanted + 0.25 * weight_change(updates[1].modules[name])
        assert _relative(weight_change(factors), wanted.double()) < 1e-5
    head = base["lm_head.weight"].detach()
    wanted = head + 0.25 * (updates[1].whole["lm_head.weight"] - head)
    torch.testing.assert_close(merged.tensors["base_model.model.lm_head.weight"], wanted)


def test_what_no_lora_can_hold_is_refused_by_name(adapter, tiny):
    method, base = find("merge_method", "linear"), dict(tiny().named_parameters())
    updates = [
        read_lora(adapter("a", seed=1, target_modules=["lm_head"])),
        read_lora(adapter("b", seed=2, modules_to_save=["lm_head"])),
    ]
    with pytest.raises(UsageError, match=r"'b' \(.*\) has lm_head\.weight as a whole .* 'a' changes it by factors"):
        merge_adapters(method, updates, [0.5, 0.5], base=lambda name: base[name].detach())
    with pytest.raises(UsageError, match="a weight or lambda is too large"):
        merge_adapters(find("merge_method", "cat"), updates[:1], [1e38 * 1e3], rank=2)
    with pytest.raises(UsageError, match="sum to 0"):
        merge_adapters(method, updates[:1], [0.0])
    with pytest.raises(UsageError, match="rank 0: a LoRA has a rank from 1 on"):
        merge_adapters(method, updates[:1], [1.0], rank=0)


def test_weights_and_parameters_may_differ_by_tensor(three):
    weights = {"model.layers.0.self_attn.q_proj.weight": [1.0, 0.0, 0.0]}
    merged = merge_adapters(
        find("merge_method", "task_arithmetic"),
        three,
        lambda name: weights.get(name, [1.0, 1.0, 1.0]),
        parameters=lambda name: {"lambda": 2.0 if "layers.1" in name else 1.0},
    )
    dense = _dense(three, [1.0, 1.0, 1.0])
    for name, factors in merged.modules.items():
        wanted = _dense(three[:1], [1.0])[name] if name in weights else dense[name]
        wanted = wanted * 2 if "layers.1" in name else wanted
        assert _relative(weight_change(factors), wanted) < 1e-6


@pytest.mark.parametrize("name", ["cat", "linear", "ties"])
def test_biases_of_lora_are_merged_and_written_beside_the_factors(adapter, tmp_path, name):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    def biased():
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
        return LlamaForCausalLM(LlamaConfig(vocab_size=30, attention_bias=True, **sizes)).eval()

    targets = {"target_modules": ["q_proj", "v_proj"]}
    one = read_lora(adapter("a", biased(), 1, lora_bias=True, use_rslora=True, **targets))
    two = read_lora(adapter("b", biased(), 2, **targets))
    weights = [0.4, 0.6]
    parameters = {"density": 1.0} if name == "ties" else {}
    merged = merge_adapters(find("merge_method", name), [one, two], weights, parameters=parameters)
    write_lora(str(tmp_path / "merged"), merged)
    again = read_lora(str(tmp_path / "merged"))
    assert set(again.shifts) == set(one.shifts)
    for key, shift in one.shifts.items():
        # Of one adapter alone TIES leaves the whole: the other has no say.
        torch.testing.assert_close(again.shifts[key], shift if name == "ties" else 0.4 * shift)
