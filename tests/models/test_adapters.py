"""Adapters on bases: only on the one that they were trained on, and an error that says what differs."""

from __future__ import annotations

import json
import re

import pytest

from slmbench.catalog import default_catalog
from slmbench.errors import FileError, UsageError
from slmbench.models import attach_adapter, load_model, read_adapter, resolve_model
from slmbench.schema import QuantizationSpec


@pytest.fixture
def make(tmp_path):
    """make(loaded, **said) -> an adapter's folder with a training.json of the base, as a training would leave it."""

    def write(loaded, **said):
        import peft
        import torch

        torch.manual_seed(0)
        task = "SEQ_2_SEQ_LM" if loaded.architecture == "seq2seq" else "CAUSAL_LM"
        targets = list(loaded.source.lora_targets)
        config = peft.LoraConfig(r=4, target_modules=targets, task_type=task, init_lora_weights=False)
        model = peft.get_peft_model(loaded.model, config)
        folder = tmp_path / "adapter"
        model.save_pretrained(folder)
        model.unload()
        training = {
            "model": loaded.source.name,
            "base_weights_sha256": loaded.weights_sha256,
            "dtype": loaded.dtype,
            "quantization": loaded.quantization,
        }
        (folder / "training.json").write_text(json.dumps(training | said))
        return str(folder)

    return write


def _load(name="smollm2-135m", **options):
    return load_model(resolve_model(name, default_catalog(), twin=True), **options)


@pytest.mark.parametrize("quantization", [None, QuantizationSpec()])
def test_an_adapter_of_an_encoder_decoder_changes_what_it_says(make, quantization):
    import torch

    loaded = _load("flan-t5-small", quantization=quantization)
    ids = loaded.tokenizer("What is known?", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        before = loaded.model(input_ids=ids, labels=ids).logits.clone()
        tuned = attach_adapter(loaded, make(loaded))
        after = tuned.model(input_ids=ids, labels=ids).logits
    assert tuned.adapter.rank == 4
    assert (before - after).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("trained", "here", "said"),
    [
        ({"quantization": QuantizationSpec()}, {}, "'smollm2-135m-twin' packed as nf4+double, but .* is here unpacked"),
        ({}, {"quantization": QuantizationSpec()}, "'smollm2-135m-twin' unpacked, but .* is here packed as nf4+double"),
        (
            {"quantization": QuantizationSpec()},
            {"quantization": QuantizationSpec(double=False)},
            r"packed as nf4\+double, but .* packed as nf4; load the base as it was",
        ),
        (
            {},
            {"dtype": "bfloat16"},
            "in float32, but its weights are here in bfloat16; load the base with dtype float32",
        ),
    ],
)
def test_another_packing_or_dtype_is_named(make, trained, here, said):
    folder = make(_load(**trained))
    with pytest.raises(UsageError, match=said.replace("nf4+double", re.escape("nf4+double"))):
        attach_adapter(_load(**here), folder)


def test_an_adapter_of_another_model_is_refused(make):
    with pytest.raises(UsageError, match=r"'smollm2-135m-twin' with weights \w{12}, but 'smollm2-360m-twin' here has"):
        attach_adapter(_load("smollm2-360m"), make(_load()))


def test_an_adapter_of_a_packed_base_goes_on_the_whole_one_where_that_is_asked_for(make):
    folder = make(_load(quantization=QuantizationSpec()))
    assert attach_adapter(_load(), folder, strict=False).adapter.rank == 4
    with pytest.raises(UsageError, match="doesn't fit"):
        attach_adapter(_load("qwen2.5-0.5b"), make(_load("flan-t5-small")), strict=False)


def test_size_and_parameters_are_those_of_the_file(make):
    from safetensors import safe_open

    folder = make(_load())
    info = read_adapter(folder)
    with safe_open(f"{folder}/adapter_model.safetensors", "pt") as file:
        expected = sum(file.get_tensor(key).numel() for key in file.keys())  # noqa: SIM118
    assert info.parameters == expected
    assert expected * 4 < info.bytes < expected * 4 + 20_000


@pytest.mark.parametrize("keep", [4, 100, -1])
def test_a_cut_adapter_is_damaged(make, keep):
    folder = make(_load())
    path = f"{folder}/adapter_model.safetensors"
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(data[:keep])
    with pytest.raises(FileError, match=r"inside its header|bytes instead of"):
        read_adapter(folder)


def test_a_method_that_peft_does_not_know_is_named(make):
    folder = make(_load())
    path = f"{folder}/adapter_config.json"
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config | {"peft_type": "LORAA"}, file)
    with pytest.raises(UsageError, match="names peft_type 'LORAA', which the installed peft doesn't know; did you"):
        attach_adapter(_load(), folder, strict=False)
