"""Weights beside a config that isn't theirs: what transformers computes is what is scored and saved, and it is said."""

from __future__ import annotations

import json
import os

import pytest

from slmbench.catalog import default_catalog
from slmbench.deployment import export_adapter
from slmbench.errors import SlmbenchError, UsageError
from slmbench.models import load_config, load_model, resolve_model
from slmbench.recipe import load_recipe
from slmbench.training import train_adapter

STALE = {
    "bitsandbytes": {
        "load_in_4bit": True,
        "load_in_8bit": False,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "bfloat16",
        "quant_method": "bitsandbytes",
    },
    "gptq": {"bits": 4, "group_size": 128, "quant_method": "gptq", "desc_act": False, "sym": True},
    "awq": {"bits": 4, "group_size": 128, "quant_method": "awq", "version": "gemm", "zero_point": True},
    "fp8": {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]},
    "compressed-tensors": {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {}},
}
RECIPE = """\
summary: Two steps.
model: {model}
adapters: {{note: {{tasks: [nano_choice]}}}}
rows: 16
optim: {{steps: 2, batch: 2}}
on_contamination: warn
evaluation: {{tasks: [nano_choice], limit: 2}}
"""


@pytest.fixture
def rewrite(clone):
    """rewrite(name, change) -> a clone whose tensors went through change(tensors)."""

    def make(name, change):
        from safetensors.torch import load_file, save_file

        folder = clone(name)
        path = folder / "model.safetensors"
        tensors = load_file(path)
        path.unlink()
        save_file(change(tensors), path, metadata={"format": "pt"})
        return folder

    return make


def _with_head(tensors):
    import torch

    embeddings = tensors["model.embed_tokens.weight"]
    generator = torch.Generator().manual_seed(0)
    moved = embeddings.float() + 0.05 * torch.randn(embeddings.shape, generator=generator)
    return tensors | {"lm_head.weight": moved.to(embeddings.dtype)}


def _logits(model):
    import torch

    with torch.no_grad():
        return model(input_ids=torch.arange(5, 45).reshape(2, 20)).logits


@pytest.fixture
def train(tmp_path):
    def make(model):
        path = tmp_path / "short.yaml"
        path.write_text(RECIPE.format(model=model))
        catalog = default_catalog()
        source, recipe = resolve_model(str(model), catalog), load_recipe(str(path), catalog)
        return train_adapter(recipe, "note", catalog, source, out=str(tmp_path / "trained"))

    return make


@pytest.mark.parametrize("method", STALE)
def test_whole_weights_beside_a_stale_quantisation_are_loaded_whole(clone, edit, load, nano, method):
    import torch

    folder = clone()
    edit(folder / "config.json", quantization_config=STALE[method])
    loaded = load(folder)
    assert loaded.notices == (f"config.json says {method}, but the weights beside it are whole: loaded as they are",)
    assert (loaded.quantization, loaded.dtype) == (None, nano.dtype)
    assert (loaded.weights_sha256, loaded.config_sha256) == (nano.weights_sha256, nano.config_sha256)
    assert torch.equal(_logits(loaded.model), _logits(nano.model))


def test_a_stale_quantisation_is_told_in_runs_trainings_and_exports(clone, edit, load, scored, train, tmp_path, said):
    folder = clone()
    edit(folder / "config.json", quantization_config=STALE["bitsandbytes"])
    (run,) = scored(load(folder), "nano_choice")
    (told,) = (remark for remark in run.record["remarks"] if remark.startswith("config.json"))
    assert told.startswith("config.json says bitsandbytes")
    said.clear()
    adapter = train(folder)
    assert any(told in line for line in said)
    with open(os.path.join(adapter, "training.json"), encoding="utf-8") as file:
        assert json.load(file)["notices"] == [told]
    done = export_adapter(adapter, "merged", default_catalog(), out=str(tmp_path / "exported"), model=str(folder))
    assert told in done.notices
    with open(os.path.join(done.folder, "config.json"), encoding="utf-8") as file:
        assert "quantization_config" not in json.load(file)


def test_packed_weights_without_a_word_on_how_are_refused_by_name(rewrite):
    import torch

    name = "model.layers.0.mlp.up_proj.weight"
    packed = rewrite("packed", lambda tensors: tensors | {name: torch.zeros(24576, 1, dtype=torch.uint8)})
    source = resolve_model(str(packed), default_catalog())
    for look in (load_config, load_model):
        with pytest.raises(
            UsageError, match=rf"1 of its tensors are packed, such as {name} \(U8\), but config.json has no"
        ):
            look(source)


def test_a_head_that_differs_from_the_embeddings_is_used_and_saved_whatever_the_config_says(
    rewrite, edit, load, scored, computed, train, tmp_path
):
    import torch

    tied, own = (rewrite(name, _with_head) for name in ("says-tied", "says-own"))
    edit(own / "config.json", tie_word_embeddings=False)
    ours, theirs = load(tied), load(own)
    assert torch.equal(_logits(ours.model), _logits(theirs.model))
    assert ours.model.lm_head.weight is not ours.model.model.embed_tokens.weight
    assert theirs.notices == ()
    (told,) = ours.notices
    assert "a head of their own that differs" in told
    runs = [scored(one, "nano_choice") for one in (ours, theirs)]
    assert computed(runs[0]) == computed(runs[1])
    assert told in runs[0][0].record["remarks"]
    adapter = train(tied)
    done = export_adapter(adapter, "merged", default_catalog(), out=str(tmp_path / "exported"), model=str(tied))
    assert told in done.notices
    written = load(done.folder)
    assert written.notices == ()
    assert torch.equal(written.model.lm_head.weight, ours.model.lm_head.weight)


def test_a_head_that_is_the_embeddings_is_one_tensor_though_it_stands_in_the_file_twice(rewrite, load, nano):
    twice = rewrite("twice", lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()})
    loaded = load(twice)
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    assert (loaded.notices, loaded.weights_sha256) == ((), nano.weights_sha256)


@pytest.mark.parametrize("said", [False, None])
def test_a_head_that_is_nowhere_is_refused_with_the_setting_that_says_so(clone, load, said):
    folder = clone()
    config = json.loads((folder / "config.json").read_text())
    config.pop("tie_word_embeddings")
    (folder / "config.json").write_text(json.dumps(config if said is None else config | {"tie_word_embeddings": said}))
    with pytest.raises(SlmbenchError, match=r"lm_head\.weight; config.json says .*tie_word_embeddings"):
        load(folder)
