"""What a twin has in common with its model: class, switches, a sane loss, and that it learns."""

from __future__ import annotations

import math

import pytest

from slmbench.catalog import default_catalog
from slmbench.models import load_model, resolve_model

NAMES = sorted(set(default_catalog().files("models")) - {"nano"})


def _load(name):
    return load_model(resolve_model(name, default_catalog(), twin=True))


def _loss(loaded):
    said = "The patient has had pain for two days. How many days? Answer: 2 days."
    ids = loaded.tokenizer(said, return_tensors="pt")["input_ids"]
    return loaded.model(input_ids=ids, labels=ids).loss


@pytest.mark.parametrize("name", NAMES)
def test_an_untrained_twin_guesses_and_a_trained_one_does_not(name):
    import torch

    loaded = _load(name)
    loss = _loss(loaded)
    assert abs(loss.item() - math.log(loaded.model.config.vocab_size)) < 0.75
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=3e-3)
    for _ in range(6):
        _loss(loaded).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert _loss(loaded).item() < loss.item() - 2


@pytest.mark.parametrize("name", NAMES)
def test_a_twin_is_small_and_its_head_is_tied_as_its_models_is(name):
    loaded = _load(name)
    embedding, head = loaded.model.get_input_embeddings().weight, loaded.model.get_output_embeddings().weight
    assert loaded.parameters < 2_000_000
    assert (embedding.data_ptr() == head.data_ptr()) == loaded.source.tied_head
    assert embedding.shape[0] % 64 == 0 and embedding.shape[0] >= len(loaded.tokenizer)


def test_families_are_wired_as_their_models():
    classes = {name: type(_load(name).model).__name__ for name in NAMES}
    assert classes == {
        "flan-t5-small": "T5ForConditionalGeneration",
        "llama-3.2-1b-instruct": "LlamaForCausalLM",
        "llama-3.2-3b": "LlamaForCausalLM",
        "phi-3.5-mini-instruct": "Phi3ForCausalLM",
        "qwen2.5-0.5b": "Qwen2ForCausalLM",
        "qwen2.5-1.5b": "Qwen2ForCausalLM",
        "smollm2-135m": "LlamaForCausalLM",
        "smollm2-135m-instruct": "LlamaForCausalLM",
        "smollm2-360m": "LlamaForCausalLM",
        "tinyllama-1.1b-chat": "LlamaForCausalLM",
    }
    llama, qwen, phi, t5 = (
        _load(name) for name in ("llama-3.2-3b", "qwen2.5-0.5b", "phi-3.5-mini-instruct", "flan-t5-small")
    )
    layer = llama.model.model.layers[0].self_attn
    assert layer.q_proj.out_features == 2 * layer.k_proj.out_features
    assert llama.model.config.rope_parameters["rope_type"] == "llama3"
    assert qwen.model.model.layers[0].self_attn.q_proj.bias.abs().max() > 0
    assert phi.model.model.layers[0].self_attn.qkv_proj.out_features == 3 * 128
    assert phi.model.model.layers[0].mlp.gate_up_proj.out_features == 2 * 256
    assert (phi.model.config.rope_parameters["rope_type"], phi.model.config.sliding_window) == ("longrope", 262144)
    assert t5.model.config.is_gated_act and t5.model.config.dense_act_fn == "gelu_new"
    assert t5.model.config.decoder_start_token_id == t5.tokenizer.pad_token_id


def test_a_saved_t5_is_the_same_model_when_it_is_loaded_again(tmp_path):
    import torch

    loaded = _load("flan-t5-small")
    loaded.model.save_pretrained(tmp_path / "saved")
    loaded.tokenizer.save_pretrained(tmp_path / "saved")
    again = load_model(resolve_model(str(tmp_path / "saved"), default_catalog()))
    assert again.weights_sha256 == loaded.weights_sha256
    with torch.no_grad():
        assert torch.equal(_loss(loaded), _loss(again))


@pytest.mark.parametrize("name", NAMES)
def test_a_twin_stops_at_the_ids_that_its_tokenizer_names(name):
    loaded = _load(name)
    stops = loaded.model.generation_config.eos_token_id
    assert loaded.tokenizer.eos_token_id in (stops if isinstance(stops, list) else [stops])
