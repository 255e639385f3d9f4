"""An adapter's changes are those that peft makes; what is no sum of changes is refused by name."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from slmbench.errors import FileError, UsageError
from slmbench.merging.lora import check_fit, read_lora, weight_change

_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def _merged_by_peft(model, folder):
    """name -> what peft's merging adds to each parameter of a model."""
    import peft

    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    after = peft.PeftModel.from_pretrained(model, folder).merge_and_unload()
    return before, {name: value.detach() - before[name] for name, value in after.named_parameters()}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True, "r": 6},
        {"rank_pattern": {"layers.0.self_attn.q_proj": 7}, "alpha_pattern": {"down_proj": 3}},
        {"use_dora": True},
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"target_modules": ["embed_tokens"], "use_dora": True},
        {"target_modules": "all-linear", "init_lora_weights": "orthogonal"},
    ],
    ids=str,
)
def test_the_change_is_what_peft_merges(adapter, tiny, settings):
    import torch

    update = read_lora(adapter("one", **settings))
    before, changes = _merged_by_peft(tiny(), update.folder)
    check_fit(update, {name: tuple(value.shape) for name, value in before.items()})
    changed = {name for name, value in changes.items() if float(value.abs().max()) > 0}
    assert changed == set(update.modules)
    for name, factors in update.modules.items():
        torch.testing.assert_close(weight_change(factors, before[name]), changes[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("said", [True, False], ids=["said", "not said"])
def test_a_conv1d_lies_as_the_base_does_whatever_its_config_says(adapter, said):
    """GPT-2's weights are (inputs, outputs), and its square ones don't show it."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    def gpt2():
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=24, n_layer=1, n_head=2, n_positions=8)).eval()

    folder = adapter("one", gpt2(), target_modules=["c_attn", "attn.c_proj"], fan_in_fan_out=True, use_dora=True)
    before, changes = _merged_by_peft(gpt2(), folder)
    update = read_lora(_with(folder, fan_in_fan_out=said))
    update = check_fit(update, {name: tuple(value.shape) for name, value in before.items()})
    assert len(update.modules) == 2
    for name, factors in update.modules.items():
        torch.testing.assert_close(weight_change(factors, before[name]), changes[name], rtol=1e-5, atol=1e-6)


def test_an_encoder_decoder_s_modules_have_the_base_s_names(adapter):
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    def t5():
        torch.manual_seed(0)
        config = T5Config(vocab_size=50, d_model=16, d_kv=4, d_ff=20, num_layers=1, num_heads=2)
        return T5ForConditionalGeneration(config).eval()

    folder = adapter("one", t5(), target_modules=["q", "wo"], task_type="SEQ_2_SEQ_LM", lora_bias=False)
    before, changes = _merged_by_peft(t5(), folder)
    update = check_fit(read_lora(folder), {name: tuple(value.shape) for name, value in before.items()})
    assert "decoder.block.0.layer.1.EncDecAttention.q.weight" in update.modules
    assert set(update.modules) == {name for name, change in changes.items() if float(change.abs().max())}
    for name, factors in update.modules.items():
        torch.testing.assert_close(weight_change(factors), changes[name], rtol=1e-5, atol=1e-6)


def test_a_bias_of_lora_is_added_to_the_base_s_with_its_scaling(adapter):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    def biased():
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
        return LlamaForCausalLM(LlamaConfig(vocab_size=30, attention_bias=True, **sizes)).eval()

    folder = adapter("one", biased(), target_modules=["q_proj"], lora_bias=True)
    _, changes = _merged_by_peft(biased(), folder)
    update = read_lora(folder)
    assert list(update.shifts) == ["model.layers.0.self_attn.q_proj.bias"]
    for name, shift in update.shifts.items():
        torch.testing.assert_close(shift, changes[name], rtol=1e-5, atol=1e-6)


def _with(folder, **settings):
    path = Path(folder) / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"init_lora_weights": "pissa"}, 'init_lora_weights is "pissa", has to be true, false, gaussian'),
        ({"init_lora_weights": "pissa_niter_4"}, "base's own weights were changed before the training"),
        ({"init_lora_weights": "olora"}, "path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights"),
        ({"bias": "lora_only"}, "field bias"),
        ({"trainable_token_indices": [1, 2]}, "its rows stand in the place of the base's embeddings"),
        ({"alora_invocation_tokens": [1]}, "for some of the tokens only"),
        ({"target_parameters": ["mlp.weight"]}, "field target_parameters"),
        ({"use_of_a_later_peft": True}, "what it does to the change is not known here"),
        ({"layer_replication": [[0, 1]]}, "another model, of more layers"),
    ],
)
def test_what_is_no_sum_of_changes_is_refused_by_its_setting(adapter, settings, said):
    folder = _with(adapter("one"), **settings)
    with pytest.raises(FileError, match=re.escape(said)) as error:
        read_lora(folder)
    assert "adapter_config.json" in str(error.value)
    assert "merge_and_unload" in str(error.value)


def test_all_settings_that_are_refused_are_told_at_once(adapter):
    folder = _with(adapter("one"), init_lora_weights="olora", bias="all", use_qalora=True)
    with pytest.raises(FileError) as error:
        read_lora(folder)
    assert len(error.value.problems) == 3


def test_an_adapter_of_another_kind_is_refused(adapter):
    with pytest.raises(UsageError, match="of kind LOKR"):
        read_lora(_with(adapter("one"), peft_type="LOKR"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {**t, _A: t[_A] * float("nan")}, "tensor .*lora_A.weight: it holds NaN or infinity"),
        (lambda t: {k: v for k, v in t.items() if k != _A}, "q_proj: it has one factor of two"),
        (lambda t: {**t, _A: t[_A][:2].clone()}, "its factors are of shapes"),
        (lambda t: {**t, "odd.weight": t[_A].clone()}, "tensor odd.weight: its name doesn't begin with"),
        (lambda t: {**t, "base_model.model.lora_C.weight": t[_A].clone()}, "it isn't part of a LoRA"),
        (lambda t: {**t, _A.replace("lora_A", "lora_magnitude_vector"): t[_A][0].clone()}, "use_dora and its tensors"),
        (lambda t: {}, "holds no tensors"),
        (lambda t: {**t, _A: t[_A].to(__import__("torch").float8_e4m3fn)}, "it is float8_e4m3fn of shape"),
        (lambda t: {**t, _A: t[_A].int()}, "it is int32 of shape"),
        (lambda t: {**t, _A: t[_A][:, :0].clone()}, r"of shape \(4, 0\)"),
        (
            lambda t: {**t, _A: t[_A] * 1e37, _A.replace("_A", "_B"): t[_A.replace("_A", "_B")] * 1e4},
            "beyond what float32",
        ),
    ],
)
def test_tensors_that_are_no_lora_are_named(adapter, change, said):
    from safetensors.torch import load_file, save_file

    folder = adapter("one")
    path = f"{folder}/adapter_model.safetensors"
    save_file(change(load_file(path)), path)
    with pytest.raises(FileError, match=said) as error:
        read_lora(folder)
    assert "adapter_model.safetensors" in str(error.value)


def test_a_file_that_is_cut_short_is_refused_before_it_is_read(adapter):
    folder = adapter("one")
    path = Path(folder) / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileError, match="bytes instead of"):
        read_lora(folder)


def test_a_pickle_is_refused(adapter):
    folder = Path(adapter("one"))
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(UsageError, match=r"adapter_model\.bin is a pickle"):
        read_lora(str(folder))


def test_a_pattern_without_an_end_is_refused_in_time(adapter, monkeypatch):
    monkeypatch.setattr("slmbench.models._peft_config.PATTERN_SECONDS", 0.3)
    folder = _with(adapter("one"), alpha_pattern={"(([a-z._0-9])+)+!": 3.0})
    with pytest.raises(FileError, match="a pattern that is matched with"):
        read_lora(folder)


def test_weights_saved_whole_and_biases_are_read_beside_the_factors(adapter):
    update = read_lora(adapter("one", modules_to_save=["lm_head"]))
    assert list(update.whole) == ["lm_head.weight"]
    assert update.needs_base == ["lm_head.weight"] and not update.copied
    copied = read_lora(adapter("two", target_modules=["embed_tokens"]))
    assert copied.copied == {"model.embed_tokens.weight"} and copied.needs_base == []
