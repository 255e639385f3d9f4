"""What is refused before a weight is loaded, what is said to set instead, and that what can work is let through."""

from __future__ import annotations

import re
import time

import pytest

from slmbench.catalog import default_catalog
from slmbench.errors import UsageError
from slmbench.formats import load_format
from slmbench.models import load_config, load_tokenizer, resolve_model
from slmbench.recipe import load_recipe
from slmbench.training._refusals import refuse_impossible


def _refuse(*overrides, source=None, tokenizer=None, config=None, device="cpu", recipe="nano-quickstart"):
    spec = load_recipe(recipe, default_catalog(), overrides).spec
    source = source or resolve_model("nano", default_catalog())
    refuse_impossible(
        spec,
        spec.optim,
        source,
        config or load_config(source),
        tokenizer or load_tokenizer(source),
        device=device,
        format=load_format(spec.format),
    )


def _tied(**settings):
    from transformers import LlamaConfig

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaConfig(
        **{**sizes, "num_key_value_heads": 2, "vocab_size": 1024, "tie_word_embeddings": True, **settings}
    )


# What happens without each, seen by running it:
CASES = {
    # bitsandbytes warns, and its states are not paged.
    ("optim.optimizer=paged_adamw_8bit",): r"optim\.optimizer: 'paged_adamw_8bit' pages between a GPU and memory",
    # It trains: gradients below 6e-8 are 0.
    ("dtype=float16",): r"dtype: float16 \(the recipe's\) is trained on a GPU alone",
    ("method=qlora", "quantization.compute=float16"): r"quantization\.compute: float16 is trained on a GPU alone",
    # peft adapts both, and the head and the embeddings are no longer the same; trl raises where it is told.
    ("lora.targets=[q_proj, lm_head]",): r"'lm_head' is the head or the embeddings of 'nano': .* one tensor",
    ("lora.targets=[q_proj, embed_tokens]",): r"'embed_tokens' is the head or the embeddings of 'nano'",
    # Rotary positions run on past what was trained.
    ("max_tokens=4096",): r"max_tokens: is 4096, but 'nano' has a context of 1024",
    # peft makes the adapter, of which the part beyond the module's own rank adds nothing.
    ("lora.rank=256",): r"lora\.rank: is 256, but model\.layers\.0\.self_attn\.q_proj is 128 x 128, and 27 more",
    # peft adapts q_proj, and says nothing of the other.
    ("lora.targets=[q_proj, vproj]",): r"lora\.targets: 'nano' has no 'vproj'; did you mean 'v_proj'\?",
    # peft raises after the weights are loaded, without saying what there is.
    ("lora.targets=[qkv]",): r"lora\.targets: 'nano' has no 'qkv'.* it has down_proj, gate_proj, k_proj",
    ("lora.targets=[self_attn]",): r"'self_attn' of 'nano' is not a layer that takes an adapter",
}


@pytest.mark.parametrize(("overrides", "said"), CASES.items(), ids=[" ".join(key) for key in CASES])
def test_what_can_not_work_is_refused(overrides, said):
    with pytest.raises(UsageError, match=said) as raised:
        _refuse(*overrides)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("overrides", [key for key in CASES if "lm_head" not in key[0] and "embed" not in key[0]])
def test_what_is_said_to_set_instead_is_let_through(overrides):
    with pytest.raises(UsageError) as raised:
        _refuse(*overrides)
    way_out = re.search(r"`--set ([^`]+)`", str(raised.value)).group(1)
    _refuse(*overrides, way_out)


def test_processes_that_others_start_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="WORLD_SIZE: is 2, but slmbench starts the processes of a training itself"):
        _refuse()
    monkeypatch.setenv("WORLD_SIZE", "1")
    _refuse()


def test_all_faults_are_told_at_once():
    with pytest.raises(UsageError) as raised:
        _refuse("dtype=float16", "max_tokens=4096", "lora.rank=256", "lora.targets=[q_proj, vproj]")
    assert [line.split(":")[0] for line in str(raised.value).splitlines()] == [
        "dtype",
        "max_tokens",
        "lora.targets",
        "lora.rank",
    ]


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("method=full", "lora.rank=512"),
        ("method=qlora", "lora.dora=true"),
        ("method=qlora", "quantization={type: int8}", "dtype=bfloat16"),
        ("optim.optimizer=adamw_8bit", "lora.rslora=true", "lora.lr_ratio=16"),
        ("dtype=bfloat16", "packing=true", "optim.gradient_checkpointing=true"),
        ("lora.targets=[q_proj, self_attn.v_proj]", "lora.rank=128", "max_tokens=1024"),
        ("format=chat",),
        ("format=toon",),
        ("format=toon", "loss=all", "packing=true"),
    ],
    ids=" ".join,
)
def test_what_works_is_let_through(overrides):
    _refuse(*overrides)


def test_encoder_decoder_is_not_packed_and_takes_its_own_targets(small_t5):
    source = resolve_model(str(small_t5), default_catalog())
    _refuse("lora.targets=[q, v, wo]", "lora.rank=8", source=source)
    with pytest.raises(UsageError) as raised:
        _refuse("packing=true", "loss=all", "lora.targets=[q_proj]", "lora.rank=8", source=source)
    first, of_loss, second = str(raised.value).splitlines()
    assert "is an encoder-decoder, whose rows can't lie end to end; `--set packing=false`" in first
    assert "whose prompt is read and never written, so it has no loss; `--set loss=answer`" in of_loss
    assert re.search(r"has no 'q_proj'.* it has k, o, q, v, wi, wo;", second)


def test_targets_of_a_causal_model_are_refused_in_one_line_on_an_encoder_decoder(small_t5):
    source = resolve_model(str(small_t5), default_catalog())
    with pytest.raises(UsageError) as raised:
        _refuse("lora.targets=[q_proj, k_proj, gate_proj]", "lora.rank=8", source=source)
    (line,) = str(raised.value).splitlines()
    assert "(an encoder-decoder) has no q_proj, k_proj, gate_proj; it has k, o, q, v, wi, wo; `--set lora." in line


def test_causal_recipe_on_the_twin_of_an_encoder_decoder():
    source = resolve_model("flan-t5-small", default_catalog(), twin=True)
    with pytest.raises(UsageError) as raised:
        _refuse("packing=true", "format=toon", "max_tokens=1024", source=source)
    keys = [line.split(":")[0] for line in str(raised.value).splitlines()]
    # Its tokenizer turns line breaks into blanks.
    assert keys == ["max_tokens", "packing", "format"]
    _refuse("max_tokens=512", source=source)


def test_end_of_text_that_the_template_never_writes_is_refused():
    source = resolve_model("nano", default_catalog())
    tokenizer = load_tokenizer(source)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>", "")
    with pytest.raises(UsageError, match=r"format: the model's chat template closes a turn with .* which has no EOS"):
        _refuse("format=chat", tokenizer=tokenizer)
    # trl trains this without a warning: the template ends in <|end|>, the tokenizer in something else.
    tokenizer = load_tokenizer(source)
    tokenizer.eos_token = "<|pad|>"
    with pytest.raises(UsageError, match=r"which has no EOS \('<\|pad\|>'\)"):
        _refuse("format=chat", tokenizer=tokenizer)
    _refuse("format=plain", tokenizer=tokenizer)


def test_tokenizer_of_another_model_is_refused():
    tokenizer = load_tokenizer(resolve_model("nano", default_catalog()))
    tokenizer.eos_token = "<|assistant|>"
    with pytest.raises(UsageError, match=r"EOS \('<\|assistant\|>'\) is token 4, but 'nano' has 4 tokens"):
        _refuse(tokenizer=tokenizer, config=_tied(vocab_size=4))


def test_adapter_on_a_head_of_its_own_is_refused_and_on_embeddings_of_their_own_let_through():
    # trl: "the adapter would never be trained".
    with pytest.raises(UsageError, match=r"'lm_head' is the head .* taken from the head's own weights"):
        _refuse("lora.targets=[lm_head]", config=_tied(tie_word_embeddings=False))
    _refuse("lora.targets=[embed_tokens, q_proj]", config=_tied(tie_word_embeddings=False))


def test_machine_without_bitsandbytes_is_told_what_to_do(monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if "bitsandb" in name else find(name, *rest)
    )
    with pytest.raises(UsageError) as raised:
        _refuse("method=qlora", "optim.optimizer=adamw_8bit")
    first, second = str(raised.value).splitlines()
    assert "not installed (`pip install bitsandbytes`); `--set optim.optimizer=adamw_torch`" in first
    assert "method: 'qlora' needs bitsandbytes" in second and "`--set method=lora`" in second


def test_machine_on_which_bitsandbytes_is_there_and_fails_is_told_why(monkeypatch):
    import bitsandbytes.functional

    def fails(*_, **__):
        raise RuntimeError("Native library not available")

    monkeypatch.setattr(bitsandbytes.functional, "quantize_4bit", fails)
    with pytest.raises(UsageError, match=r"doesn't run here: Native library not available; `--set method=lora`"):
        _refuse("method=qlora")
    # Eight bits are tried by themselves.
    _refuse("method=qlora", "quantization.type=int8")
    monkeypatch.setattr(bitsandbytes.nn, "Linear8bitLt", fails)
    with pytest.raises(UsageError, match=r"doesn't run here: Native library not available; `--set method=lora`"):
        _refuse("method=qlora", "quantization.type=int8")


def test_gpu_without_bfloat16(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    with pytest.raises(UsageError, match=r"this GPU computes no bfloat16; `--set dtype=float16`"):
        _refuse("dtype=bfloat16", device="cuda")
    _refuse("dtype=float16", "optim.optimizer=adamw_torch", device="cuda")


def test_model_of_three_thousand_million_numbers_is_looked_at_in_a_second():
    big = _tied(
        hidden_size=3072,
        intermediate_size=8192,
        num_hidden_layers=28,
        num_attention_heads=24,
        num_key_value_heads=8,
        vocab_size=128256,
    )
    _refuse()
    started = time.process_time()
    with pytest.raises(UsageError, match="has no 'qq_proj'"):
        _refuse("lora.targets=[qq_proj]", config=big)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("recipe", ["flan-t5-medical", "phi35-multitask", "smollm2-deepthink", "task-adapters"])
def test_published_recipes_are_let_through_on_their_twins(recipe):
    spec = load_recipe(recipe, default_catalog()).for_twin().spec
    _refuse(recipe=recipe, source=resolve_model(spec.model, default_catalog(), twin=True))
