"""Small adapters, made by peft itself."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def tiny():
    """tiny() -> a new Llama of the same random weights each time."""
    return _tiny


def _tiny():
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def adapter(tmp_path):
    """adapter(name, model=None, seed=0, **settings) -> the folder of an adapter that peft saved, no factor of it 0."""

    def make(name, model=None, seed=0, **settings):
        import peft
        import torch

        torch.manual_seed(seed)
        model = _tiny() if model is None else model
        settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], **settings}
        tuned = peft.get_peft_model(model, peft.LoraConfig(**settings))
        torch.manual_seed(100 + seed)
        for key, parameter in tuned.named_parameters():
            if parameter.requires_grad:
                noise = torch.randn_like(parameter) * 0.1
                parameter.data = parameter.data + noise if "magnitude" in key or "to_save" in key else noise
        tuned.save_pretrained(tmp_path / name)
        tuned.unload()
        return str(tmp_path / name)

    return make
