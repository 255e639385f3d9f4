"""Small checkpoints as transformers saves them: a causal model with a tied head, and a T5 with a head of its own."""

from __future__ import annotations

import os

import pytest

from slmbench.catalog import default_catalog
from slmbench.models import resolve_model


def _llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=60,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def _t5():
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=40,
            d_model=16,
            d_kv=4,
            d_ff=24,
            num_layers=2,
            num_heads=2,
            feed_forward_proj="gated-gelu",
            decoder_start_token_id=0,
        )
    )


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """folders[kind][number] -> a folder: 0 is the base, and 1, 2, 3 are what training made of it. Not to be changed."""
    import torch
    from safetensors.torch import load_file, save_file

    top = tmp_path_factory.mktemp("checkpoints")
    found = {}
    for kind, make in (("llama", _llama), ("t5", _t5)):
        found[kind] = []
        for number in range(4):
            folder = str(top / f"{kind}{number}")
            torch.manual_seed(0)
            make().save_pretrained(folder)
            path = os.path.join(folder, "model.safetensors")
            tensors = load_file(path)
            torch.manual_seed(number)
            if kind == "t5" and number == 0:
                tensors["lm_head.weight"] = torch.randn_like(tensors["shared.weight"])
            elif kind == "t5":
                tensors["lm_head.weight"] = load_file(os.path.join(found[kind][0], "model.safetensors"))[
                    "lm_head.weight"
                ]
            for name, tensor in tensors.items() if number else ():
                tensors[name] = tensor + 0.01 * torch.randn_like(tensor)
            save_file(tensors, path, {"format": "pt"})
            found[kind].append(folder)
    return found


@pytest.fixture(scope="session")
def catalog():
    return default_catalog()


@pytest.fixture
def plan(tmp_path, catalog):
    """plan(inputs, base=None, **more) -> a MergePlan; inputs: folders, called a, b, c, or (name, folder) pairs."""
    from slmbench.merging import MergeInput, MergePlan

    def make(inputs, base=None, **more):
        pairs = [one if isinstance(one, tuple) else (name, one) for name, one in zip("abcdefgh", inputs, strict=False)]
        return MergePlan(
            **{
                "name": "made",
                "base": None if base is None else resolve_model(base, catalog),
                "inputs": tuple(MergeInput(name, str(path)) for name, path in pairs),
                "method": "linear",
                "out": str(tmp_path / "out"),
                **more,
            }
        )

    return make
