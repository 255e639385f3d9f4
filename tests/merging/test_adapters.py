"""Adapters merged into models and into one another by plans, beside what peft makes of them."""

from __future__ import annotations

import os

import pytest

from slmbench.errors import DataError, UsageError
from slmbench.merging import merge


@pytest.fixture(scope="session")
def adapters(folders, tmp_path_factory):
    """adapters[kind] -> folders of two LoRA adapters of its base, of other ranks and targets, as peft saves them."""
    import peft
    import torch
    import transformers

    top = tmp_path_factory.mktemp("adapters")
    found = {}
    for kind, auto, settings in (
        ("llama", transformers.AutoModelForCausalLM, (["q_proj", "down_proj"], ["q_proj", "v_proj"])),
        ("t5", transformers.AutoModelForSeq2SeqLM, (["q", "wo"], ["q", "v"])),
    ):
        found[kind] = []
        for number, targets in enumerate(settings):
            torch.manual_seed(number)
            base = auto.from_pretrained(folders[kind][0])
            config = peft.LoraConfig(r=2 + 2 * number, lora_alpha=8, target_modules=targets, use_rslora=number == 1)
            tuned = peft.get_peft_model(base, config)
            for name, parameter in tuned.named_parameters():
                if "lora_" in name:
                    parameter.data = torch.randn_like(parameter) * 0.1
            tuned.save_pretrained(top / f"{kind}{number}")
            found[kind].append(str(top / f"{kind}{number}"))
    return found


def _alone(kind, base, adapter):
    """The state of a base with one adapter merged by peft, float64."""
    import peft
    import transformers

    auto = transformers.AutoModelForSeq2SeqLM if kind == "t5" else transformers.AutoModelForCausalLM
    model = peft.PeftModel.from_pretrained(auto.from_pretrained(base).double(), adapter).merge_and_unload()
    return model.state_dict()


def _state(kind, folder):
    import transformers

    auto = transformers.AutoModelForSeq2SeqLM if kind == "t5" else transformers.AutoModelForCausalLM
    return auto.from_pretrained(folder).state_dict()


@pytest.mark.parametrize("kind", ["llama", "t5"])
@pytest.mark.parametrize("aside", [0, 10**9])
def test_adapters_go_into_their_base_by_what_they_change(kind, aside, folders, adapters, plan, catalog, monkeypatch):
    import torch

    monkeypatch.setattr("slmbench.merging._weights._ASIDE_BYTES", aside)
    base = folders[kind][0]
    made = merge(
        plan(adapters[kind], base, method="task_arithmetic", weights={"a": 0.5}, parameters={"lambda": 0.8}), catalog
    )
    start = _state(kind, base)
    alone = [_alone(kind, base, folder) for folder in adapters[kind]]
    changed = 0
    for name, tensor in _state(kind, made.folder).items():
        change = 0.5 * (alone[0][name] - start[name]) + alone[1][name] - start[name]
        if not change.any():
            assert torch.equal(tensor, start[name]), name
            continue
        changed += 1
        exact = start[name].double() + 0.8 * change
        assert float((tensor - exact).abs().max()) < 1e-6 * float(exact.abs().max()), name
    assert changed > 4
    assert [one.kind for one in made.record.inputs] == ["adapter", "adapter"]
    assert made.record.totals["unchanged"]["true"] == len(made.record.tensors) - changed


@pytest.mark.parametrize("method", ["linear", "ties", "cat"])
def test_a_lora_and_a_model_of_one_merge_say_the_same(method, folders, adapters, plan, catalog):
    base = folders["llama"][0]
    lora = merge(plan(adapters["llama"], base, method=method, result="lora", rank="full"), catalog)
    model = merge(plan(adapters["llama"], base, method=method), catalog)
    assert os.path.basename(os.path.dirname(lora.folder)) == "adapters"
    one, other, start = _alone("llama", base, lora.folder), _state("llama", model.folder), _state("llama", base)
    for name, tensor in other.items():
        scale = float((tensor - start[name]).abs().max())
        assert float((tensor - one[name]).abs().max()) <= 1e-4 * scale, name


def test_a_model_and_an_adapter_merge_as_what_they_are_on_the_base(folders, adapters, plan, catalog):
    base, other, *_ = folders["llama"]
    made = merge(plan([adapters["llama"][0], other], base, method="linear", weights={"a": 3, "b": 1}), catalog)
    mine, theirs = _alone("llama", base, adapters["llama"][0]), _state("llama", other)
    for name, tensor in _state("llama", made.folder).items():
        exact = (3 * mine[name] + theirs[name].double()) / 4
        assert float((tensor - exact).abs().max()) < 1e-6 * float(exact.abs().max()), name


def test_a_cut_rank_is_in_the_record(folders, adapters, plan, catalog):
    from slmbench.models import read_adapter

    made = merge(plan(adapters["llama"], result="lora", rank=3), catalog)
    assert read_adapter(made.folder).rank == made.record.rank == 3
    assert 0 < made.record.totals["error"]["largest"] < 1
    assert read_adapter(made.folder).merge == made.record
    whole = merge(plan(adapters["llama"], result="lora"), catalog)
    assert whole.record.rank == 6 and whole.record.totals["error"]["largest"] == 0


def test_adapters_that_dont_fit_are_told(folders, adapters, plan, catalog):
    a, b = adapters["llama"]
    for wrong, text in (
        (plan([a, b]), "name the base that it is put on"),
        (plan([a, folders["llama"][1]], folders["llama"][0], result="lora"), "b is a whole model, and a LoRA is made"),
        (plan([a, adapters["t5"][0]], folders["llama"][0]), "merge adapters of one base"),
        (plan([a, b], folders["llama"][1]), "whose weights are not those of"),
    ):
        with pytest.raises((DataError, UsageError), match=text):
            merge(wrong, catalog)


def test_a_change_of_a_tied_tensor_is_refused(folders, plan, catalog, tmp_path):
    import peft
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folders["llama"][0])
    tuned = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["embed_tokens"]))
    tuned.save_pretrained(tmp_path / "tied", save_embedding_layers=False)
    with pytest.raises(DataError, match=r"changes model.embed_tokens.weight, which in the base is one with lm_head"):
        merge(plan([tmp_path / "tied"], folders["llama"][0]), catalog)


def test_mergekits_methods_go_by_the_same_plan(folders, plan, catalog):
    import torch

    api = pytest.importorskip("mergekit.merge_methods.api")
    base, *others = folders["llama"]
    asked = {"density": {"a": 0.5, "b": 0.9}, "gamma": 0.05, "lambda": 0.7}
    made = merge(plan(others[:2], base, method="mergekit/breadcrumbs", parameters=asked, weights={"b": 2}), catalog)
    states = {name: _state("llama", folder) for name, folder in zip(("base", "a", "b"), [base, *others], strict=False)}
    parameters = {**asked, "weight": {"a": 1.0, "b": 2.0}}
    expected = api.merge_state_dicts(states, "breadcrumbs", parameters=parameters, base="base", dtype=torch.float32)
    for name, tensor in _state("llama", made.folder).items():
        assert torch.equal(tensor, expected[name]), name
    assert made.record.method_version.startswith("mergekit-")
    same = [
        merge(plan(others[:2], base, method="mergekit/della", parameters={"density": 0.5}, name=name), catalog)
        for name in ("one", "two")
    ]
    assert same[0].record.sha256 == same[1].record.sha256
    for density in (0, 3, {"a": 0.5, "b": 2}):
        with pytest.raises(UsageError, match=r"density is a number in \(0, 1\]"):
            merge(plan(others[:2], base, method="mergekit/della", parameters={"density": density}), catalog)
    with pytest.raises(UsageError, match="did you mean 'mergekit/della'"):
        merge(plan(others, base, method="mergekit/dela"), catalog)


def test_without_mergekit_it_is_said_how_to_install_it(folders, plan, catalog, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "mergekit", None)
    with pytest.raises(UsageError, match=r"pip install 'slmbench\[mergekit\]'"):
        merge(plan(folders["llama"][1:], method="mergekit/della"), catalog)


def test_a_merges_own_recipe_makes_the_same_again(folders, adapters, plan, catalog, tmp_path):
    from slmbench.workflow.merge import MergeAsked, make_merges, ready_merges

    base = folders["llama"][0]
    for name, asked in (
        ("ties", plan(adapters["llama"], base, method="ties", weights={"a": [0.5, 1]}, parameters={"density": 0.4})),
        ("average", plan(folders["llama"][1:3], weights={"a": [{"filter": "mlp", "value": 2}, {"value": 1}]})),
    ):
        made = merge(asked, catalog)
        options = MergeAsked(recipe=os.path.join(made.folder, "merge.yaml"), out=str(tmp_path / name))
        again = make_merges(ready_merges(options, catalog), catalog)
        assert [one.result.record.sha256 for one in again] == [made.record.sha256]
