"""Models from folders: what doesn't fit together is an error and never a score."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.errors import SlmbenchError, UsageError
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.models import bind_model, load_config, load_model, resolve_model
from slmbench.paths import package_dir
from slmbench.schema import QuantizationSpec
from slmbench.task import load_task


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(Path(package_dir()) / "nano" / "model", tmp_path / "mine"))


def _load(folder):
    return load_model(resolve_model(str(folder), default_catalog()))


def _change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "said"),
    [({"num_hidden_layers": 9}, "tensors are missing"), ({"num_hidden_layers": 2}, "tensors have no place")],
)
def test_weights_that_do_not_fit_their_config_are_refused(folder, values, said):
    _change(folder, **values)
    with pytest.raises(SlmbenchError, match=said):
        _load(folder)


def test_weights_of_another_shape_are_refused(folder):
    _change(folder, hidden_size=64)
    with pytest.raises(SlmbenchError, match=r"can't be loaded|another shape"):
        _load(folder)


def test_cut_weights_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SlmbenchError, match="it was cut off"):
        _load(folder)


def test_folder_without_a_config_is_no_model(tmp_path):
    with pytest.raises(UsageError, match=r"has no config\.json"):
        resolve_model(str(tmp_path), default_catalog())


def test_same_weights_under_another_config_are_another_run(folder, tmp_path):
    task = load_task("nano_choice")
    (first,) = evaluate_tasks(_load(folder), [task], EvaluationOptions(out=str(tmp_path / "out"), limit=4))
    _change(folder, rms_norm_eps=0.5)
    (second,) = evaluate_tasks(_load(folder), [task], EvaluationOptions(out=str(tmp_path / "out"), limit=4))
    assert first.record["model"]["weights_sha256"] == second.record["model"]["weights_sha256"]
    assert first.run_id != second.run_id
    assert first.samples()[0]["loglikelihoods"] != second.samples()[0]["loglikelihoods"]


def test_encoder_decoder_is_loaded_as_one_from_a_name_and_from_its_folder(twin):
    loaded = twin("flan-t5-small")
    again = load_model(resolve_model(loaded.source.location, default_catalog()))
    assert type(loaded.model).__name__ == "T5ForConditionalGeneration"
    assert (loaded.architecture, again.architecture) == ("seq2seq", "seq2seq")
    assert again.weights_sha256 == loaded.weights_sha256


def test_config_alone_is_transformers_own(twin):
    config = load_config(twin("llama-3.2-3b").source)
    assert (config.model_type, config.num_hidden_layers, config.rope_parameters["rope_type"]) == ("llama", 3, "llama3")


def test_asked_dtype_rules_over_the_declared_one():
    import torch

    source = resolve_model("nano", default_catalog())
    loaded = load_model(source, dtype="bfloat16")
    assert loaded.dtype == "bfloat16"
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.bfloat16}
    assert load_model(source).dtype == "float32"


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_packed_weights_are_what_bitsandbytes_makes_of_the_whole_ones(twin, kind):
    import torch
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    whole = twin("smollm2-135m")
    packed = load_model(whole.source, quantization=QuantizationSpec(type=kind, double=False))
    assert packed.quantization == kind
    assert packed.parameters == whole.parameters
    theirs, ours = whole.model.model.layers[1].mlp.up_proj.weight, packed.model.model.layers[1].mlp.up_proj.weight
    expected = dequantize_4bit(*quantize_4bit(theirs.data, quant_type=kind))
    assert torch.equal(dequantize_4bit(ours.data, ours.quant_state), expected)
    assert packed.model.lm_head.weight.dtype == torch.float32


@pytest.mark.parametrize("name", ["flan-t5-small", "phi-3.5-mini-instruct", "llama-3.2-1b-instruct"])
def test_a_packed_twin_computes_what_a_whole_one_with_its_rounded_weights_does(name):
    import torch
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    source = resolve_model(name, default_catalog(), twin=True)
    whole, packed = load_model(source), load_model(source, quantization=QuantizationSpec())
    assert packed.quantization == "nf4+double"
    ids = whole.tokenizer("What is known of this patient?", return_tensors="pt")["input_ids"]
    extra = {"labels": ids} if whole.architecture == "seq2seq" else {}
    rounded = 0
    with torch.no_grad():
        before = whole.model(input_ids=ids, **extra).logits
        for key, module in packed.model.named_modules():
            if isinstance(module, Linear4bit):
                weight = dequantize_4bit(module.weight.data, module.weight.quant_state)
                whole.model.get_submodule(key).weight.copy_(weight)
                rounded += 1
        after, theirs = (loaded.model(input_ids=ids, **extra).logits for loaded in (whole, packed))
    assert rounded >= 8
    assert (before - theirs).abs().max() > 0.05
    assert torch.allclose(after, theirs, atol=1e-4)


def test_compute_dtype_is_the_asked_one(twin):
    import torch

    source = twin("smollm2-135m").source
    for spec, dtype in ((QuantizationSpec(compute="bfloat16"), torch.bfloat16), (QuantizationSpec(), torch.float32)):
        assert load_model(source, quantization=spec).model.model.layers[0].mlp.up_proj.compute_dtype == dtype


def test_digest_is_of_packed_weights_and_of_their_constants(twin):
    import torch

    source = twin("smollm2-135m").source
    first = load_model(source, quantization=QuantizationSpec())
    second = load_model(source, quantization=QuantizationSpec())
    digests = {first.weights_sha256, second.weights_sha256}
    assert len(digests) == 1
    digests |= {
        twin("smollm2-135m").weights_sha256,
        load_model(source, quantization=QuantizationSpec(type="fp4")).weights_sha256,
        load_model(source, quantization=QuantizationSpec(double=False)).weights_sha256,
    }
    layer = second.model.model.layers[0].mlp.up_proj.weight
    with torch.no_grad():
        layer.quant_state.absmax[0] += 1
    digests.add(bind_model(source, second.model, second.tokenizer).weights_sha256)
    with torch.no_grad():
        layer.data[0, 0] += 1
    digests.add(bind_model(source, second.model, second.tokenizer).weights_sha256)
    assert len(digests) == 6


@pytest.mark.parametrize("double", [True, False])
def test_looking_at_a_packed_model_changes_neither_weights_nor_gradients(twin, double):
    import torch

    loaded = load_model(twin("smollm2-135m").source, quantization=QuantizationSpec(double=double))
    embedding = loaded.model.get_input_embeddings().weight
    ids = torch.arange(5, 25).reshape(1, -1)

    def gradient():
        loaded.model.train()
        embedding.requires_grad_(True).grad = None
        loaded.model(input_ids=ids, labels=ids).loss.backward()
        return embedding.grad.clone()

    before = gradient()
    loaded.model.eval()
    with torch.no_grad():
        seen = loaded.model(input_ids=ids).logits
    after = gradient()
    assert before.abs().max() > 0
    assert torch.equal(before, after)
    assert bind_model(loaded.source, loaded.model, loaded.tokenizer).weights_sha256 == loaded.weights_sha256
    # What is scored is what is trained on, to the last digits.
    assert torch.allclose(seen, loaded.model(input_ids=ids).logits, atol=1e-5)


def test_a_model_that_is_packed_already_is_not_packed_again(twin, tmp_path):
    packed = load_model(twin("smollm2-135m").source, quantization=QuantizationSpec())
    packed.model.save_pretrained(tmp_path / "packed")
    packed.tokenizer.save_pretrained(tmp_path / "packed")
    source = resolve_model(str(tmp_path / "packed"), default_catalog())
    assert load_model(source).quantization == "nf4+double"
    with pytest.raises(UsageError, match=r"is quantised already; leave `quantization` out"):
        load_model(source, quantization=QuantizationSpec())


def test_loading_draws_nothing_from_the_callers_random_numbers(twin):
    import torch

    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    load_model(twin("flan-t5-small").source)
    assert torch.equal(torch.rand(3), expected)
