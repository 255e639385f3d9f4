"""The facts of the bundled models, held against transformers' own classes in the shapes that were published."""

from __future__ import annotations

import pytest

from slmbench.catalog import default_catalog
from slmbench.schema import ModelSpec, parse
from slmbench.yamlfile import read_yaml

LLAMA_3 = {"vocab_size": 128256, "intermediate_size": 8192, "num_key_value_heads": 8, "tie_word_embeddings": True}
SMOLLM2 = {"vocab_size": 49152, "head_dim": 64, "tie_word_embeddings": True}
QWEN2 = {"vocab_size": 151936, "num_key_value_heads": 2, "tie_word_embeddings": True}

# (transformers' class, hidden, layers, heads, the rest), from the models' config.json.
PUBLISHED = {
    "llama-3.2-1b-instruct": ("Llama", 2048, 16, 32, LLAMA_3 | {"head_dim": 64}),
    "llama-3.2-3b": ("Llama", 3072, 28, 24, LLAMA_3 | {"head_dim": 128}),
    "qwen2.5-1.5b": ("Qwen2", 1536, 28, 12, QWEN2 | {"intermediate_size": 8960}),
    "qwen2.5-0.5b": ("Qwen2", 896, 24, 14, QWEN2 | {"intermediate_size": 4864}),
    "phi-3.5-mini-instruct": ("Phi3", 3072, 32, 32, {"vocab_size": 32064, "intermediate_size": 8192}),
    "tinyllama-1.1b-chat": (
        "Llama",
        2048,
        22,
        32,
        {"vocab_size": 32000, "intermediate_size": 5632, "num_key_value_heads": 4, "tie_word_embeddings": False},
    ),
    "smollm2-360m": ("Llama", 960, 32, 15, SMOLLM2 | {"intermediate_size": 2560, "num_key_value_heads": 5}),
    "smollm2-135m-instruct": ("Llama", 576, 30, 9, SMOLLM2 | {"intermediate_size": 1536, "num_key_value_heads": 3}),
    "smollm2-135m": ("Llama", 576, 30, 9, SMOLLM2 | {"intermediate_size": 1536, "num_key_value_heads": 3}),
}


def _spec(name):
    return parse(ModelSpec, read_yaml(default_catalog().find("models", name)))


def _parameters(model, *, tied):
    tensors = {key: tensor for key, tensor in model.state_dict().items() if "embed_tokens" not in key or not tied}
    return sum(tensor.numel() for key, tensor in tensors.items())


@pytest.mark.parametrize("name", PUBLISHED)
def test_declared_parameters_are_those_of_the_published_shape(name):
    import torch
    import transformers

    kind, hidden, layers, heads, rest = PUBLISHED[name]
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, **rest
    )
    with torch.device("meta"):
        model = getattr(transformers, f"{kind}ForCausalLM")(config)
    spec = _spec(name)
    assert spec.tied_head == config.tie_word_embeddings
    # Of a tied model the head is counted, and its embedding isn't.
    assert _parameters(model, tied=config.tie_word_embeddings) == spec.parameters


def test_declared_parameters_of_flan_t5_are_those_of_the_published_shape():
    import torch
    import transformers

    config = transformers.T5Config(
        d_model=512, d_ff=1024, num_layers=8, num_heads=6, d_kv=64, feed_forward_proj="gated-gelu", vocab_size=32128
    )
    with torch.device("meta"):
        tensors = transformers.T5ForConditionalGeneration(config).state_dict()
    once = {key: t for key, t in tensors.items() if not key.endswith("embed_tokens.weight")}
    assert "lm_head.weight" in once
    assert sum(t.numel() for t in once.values()) == _spec("flan-t5-small").parameters


def test_every_bundled_model_has_family_licence_and_twin():
    for name in default_catalog().files("models"):
        spec = _spec(name)
        assert spec.family and spec.license and spec.parameters and spec.tied_head is not None
        assert spec.bundled or (spec.hub and spec.twin)


@pytest.mark.parametrize("name", sorted([*PUBLISHED, "flan-t5-small"]))
def test_declared_targets_are_all_linear_layers_but_the_head(twin, name):
    from torch.nn import Linear

    loaded = twin(name)
    linear = {key.split(".")[-1] for key, module in loaded.model.named_modules() if isinstance(module, Linear)}
    assert set(loaded.source.lora_targets) == linear - {"lm_head"}


@pytest.mark.parametrize("name", sorted([*PUBLISHED, "flan-t5-small"]))
def test_an_adapter_of_rank_128_fits_every_target_of_a_twin(twin, name):
    modules = dict(twin(name).model.named_modules())
    for target in twin(name).source.lora_targets:
        for key, module in modules.items():
            if key.endswith(f".{target}"):
                assert min(module.weight.shape) >= 128, key
