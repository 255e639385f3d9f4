"""Merged weights say what base and adapter said; the folder is whole or not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.deployment import export_adapter
from slmbench.errors import FileError, OfflineError, SlmbenchError, UsageError
from slmbench.models import attach_adapter, load_model, resolve_model
from slmbench.schema import QuantizationSpec

PROMPT = "Question: 12 + 7?\nAnswer:"


def export(folder, to, out, **options):
    return export_adapter(folder, to, default_catalog(), out=str(out), **options)


def logits_of(model, tokenizer, *, seq2seq=False):
    import torch

    ids = torch.tensor([tokenizer.encode(PROMPT)])
    with torch.no_grad():
        extra = {"decoder_input_ids": ids[:, :4]} if seq2seq else {}
        return model(input_ids=ids, **extra).logits.float()


def loaded_by_transformers(folder, *, seq2seq=False):
    import transformers

    auto = transformers.AutoModelForSeq2SeqLM if seq2seq else transformers.AutoModelForCausalLM
    model = auto.from_pretrained(folder, local_files_only=True).eval()
    return model, transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


@pytest.mark.parametrize(
    ("model", "lora"),
    [
        ("nano", {}),
        ("nano", {"use_rslora": True, "r": 8}),
        ("nano", {"use_dora": True}),
        ("phi-3.5-mini-instruct", {"target_modules": ["qkv_proj", "down_proj"]}),
        ("flan-t5-small", {"target_modules": ["q", "v"]}),
    ],
    ids=["lora", "rslora", "dora", "phi3", "t5"],
)
def test_the_folder_says_what_base_and_adapter_said(make_adapter, source_of, out, model, lora):
    folder = make_adapter(model, **lora)
    made = export(folder, "merged", out)
    source = source_of(model)
    seq2seq = source.architecture == "seq2seq"
    base = load_model(source)
    plain = logits_of(base.model, base.tokenizer, seq2seq=seq2seq)
    tuned = attach_adapter(base, folder)
    wanted = logits_of(tuned.model, tuned.tokenizer, seq2seq=seq2seq)
    got = logits_of(*loaded_by_transformers(made.folder, seq2seq=seq2seq), seq2seq=seq2seq)
    scale = float(wanted.abs().max())
    assert float((wanted - plain).abs().max()) > 0.05 * scale, "the adapter changes nothing, so nothing is tested"
    assert float((got - wanted).abs().max()) <= 1e-4 * scale
    measured = json.loads((out / "models" / "tuned-merged" / "export.json").read_text())["merge"]
    assert 0 <= measured["largest_difference"] <= 1e-4 * measured["largest_logit"]


def test_weights_are_base_plus_scaled_product(make_adapter, source_of, out):
    import torch
    from safetensors.torch import load_file

    folder = make_adapter("nano", r=4, lora_alpha=16)
    made = export(folder, "merged", out)
    merged = load_file(os.path.join(made.folder, "model.safetensors"))
    tensors = load_file(os.path.join(folder, "adapter_model.safetensors"))
    base = load_model(source_of("nano")).model.state_dict()
    name = "model.layers.1.mlp.up_proj"
    a, b = (tensors[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
    wanted = base[f"{name}.weight"] + 16 / 4 * (b.double() @ a.double()).float()
    torch.testing.assert_close(merged[f"{name}.weight"], wanted, rtol=1e-5, atol=1e-5)


def test_a_base_of_eight_bits_is_merged_as_it_was_packed(make_adapter, source_of, out):
    import torch
    from safetensors.torch import load_file

    folder = make_adapter("nano", quantization=QuantizationSpec(type="int8"))
    made = export(folder, "merged", out)
    merged, tensors = (
        load_file(Path(made.folder) / "model.safetensors"),
        load_file(Path(folder) / "adapter_model.safetensors"),
    )
    base = load_model(source_of("nano")).model.state_dict()
    name = "model.layers.1.mlp.up_proj"
    a, b = (tensors[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
    whole = base[f"{name}.weight"]
    # Half a step of each row's scale, of weights that were cast to float16 first.
    off = (merged[f"{name}.weight"] - 16 / 4 * (b.double() @ a.double()).float() - whole).abs()
    most = whole.abs().amax(dim=1, keepdim=True)
    assert torch.all(off <= most * (0.5 / 127 + 2**-10))
    assert float((off / most).max()) > 0.3 / 127, "packing changes nothing, so nothing is tested"
    assert made.record["merge"]["as_evaluated"]["quantization"] == {"type": "int8", "double": False}


def test_a_packed_base_is_merged_as_it_was_packed(make_adapter, source_of, nf4, out):
    folder = make_adapter("tinyllama-1.1b-chat", quantization=nf4)
    made = export(folder, "merged", out)
    source = source_of("tinyllama-1.1b-chat")
    packed = load_model(source, quantization=nf4)
    wanted = logits_of(attach_adapter(packed, folder).model, packed.tokenizer)
    model, tokenizer = loaded_by_transformers(made.folder)
    got = logits_of(model, tokenizer)
    whole = logits_of(attach_adapter(load_model(source), folder, strict=False).model, packed.tokenizer)
    scale = float(wanted.abs().max())
    assert float((got - wanted).abs().max()) <= 1e-3 * scale
    assert float((whole - wanted).abs().max()) > 1e-2 * scale, "packing changes nothing, so nothing is tested"
    evaluated = made.record["merge"]["as_evaluated"]
    assert evaluated["quantization"] == {"type": "nf4", "double": True}
    assert evaluated["largest_difference"] <= 1e-3 * scale
    assert "quantization_config" not in json.loads((out / "models" / "tuned-merged" / "config.json").read_text())
    assert {str(p.dtype) for p in model.parameters()} == {"torch.float32"}


def test_a_tied_head_stays_tied(make_adapter, out):
    from safetensors import safe_open

    made = export(make_adapter("nano"), "merged", out)
    with safe_open(os.path.join(made.folder, "model.safetensors"), "pt") as file:
        assert "lm_head.weight" not in set(file.keys())
    model, _ = loaded_by_transformers(made.folder)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_what_cant_be_added_to_the_weights_is_refused(make_adapter, out):
    folder = make_adapter("nano", target_modules=["lm_head"], r=8)
    with pytest.raises(SlmbenchError, match=r"merging moves a logit by .* tied to the embeddings"):
        export(folder, "merged", out)
    assert list((out / "models").iterdir()) == []


def test_large_models_come_in_shards(make_adapter, out, monkeypatch):
    from slmbench.deployment import _files

    monkeypatch.setattr(_files, "SHARD_BYTES", 10**6)
    made = export(make_adapter("nano"), "merged", out)
    names = sorted(os.listdir(made.folder))
    assert sum(name.endswith(".safetensors") for name in names) > 1
    assert "model.safetensors.index.json" in names
    loaded_by_transformers(made.folder)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_dtype_can_be_asked_for_and_what_it_costs_is_written_down(make_adapter, out, dtype):
    made = export(make_adapter("nano"), "merged", out, dtype=dtype)
    model, _ = loaded_by_transformers(made.folder)
    assert {str(p.dtype) for p in model.parameters()} == {f"torch.{dtype}"}
    measured = made.record["merge"]
    assert measured["as_evaluated"]["largest_difference"] > measured["largest_difference"]
    assert 0 < measured["as_evaluated"]["same_next_token"] <= 1


def test_the_folder_is_a_model_that_eval_takes(make_adapter, out):
    made = export(make_adapter("nano"), "merged", out)
    loaded = load_model(resolve_model(made.folder, default_catalog()))
    assert loaded.parameters == load_model(resolve_model("nano", default_catalog())).parameters
    assert loaded.tokenizer.chat_template


def test_an_adapter_made_elsewhere_takes_its_base_from_model(make_adapter, out):
    folder = make_adapter("nano", record=False)
    path = Path(folder) / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": None}))
    with pytest.raises(UsageError, match="doesn't say what its base is; name it with --model"):
        export(folder, "merged", out)
    made = export(folder, "merged", out, model="nano")
    assert made.record["model"]["name"] == "nano"
    assert made.record["merge"]["prompts"] == 2


def test_a_model_whose_weights_were_all_trained_is_exported_as_it_is(source_of, out, tmp_path):
    from safetensors.torch import load_file

    loaded = load_model(source_of("nano"))
    folder = tmp_path / "models" / "whole"
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    record = {"model": "nano", "dtype": "float32", "tasks": {"nano_note": {}}, "settings": {"format": "chat"}}
    (folder / "training.json").write_text(json.dumps(record))
    made = export(str(folder), "merged", out)
    assert made.record["adapter"] is None and made.record["tasks"] == ["nano_note"]
    before, after = (load_file(os.path.join(place, "model.safetensors")) for place in (folder, made.folder))
    assert {name: bool((before[name] == after[name]).all()) for name in before} == dict.fromkeys(after, True)
    assert "Modelfile" in os.listdir(export(str(folder), "ollama", out).folder)


def test_an_export_takes_the_place_of_an_older_one_only(make_adapter, out):
    folder = make_adapter("nano")
    first = export(folder, "merged", out)
    assert export(folder, "merged", out, dtype="float16").folder == first.folder
    os.unlink(os.path.join(first.folder, "export.json"))
    with pytest.raises(UsageError, match="no export made it; give another --out"):
        export(folder, "merged", out)


def test_an_adapter_of_another_base_is_refused(make_adapter, out):
    folder = make_adapter("smollm2-135m")
    with pytest.raises(UsageError, match="was trained on 'smollm2-135m-twin' with weights"):
        export(folder, "merged", out, model="nano")
    assert not (out / "models" / "tuned-merged").exists()


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "training.json", "adapter_config.json"])
def test_a_damaged_adapter_is_refused(make_adapter, out, name):
    folder = make_adapter("nano")
    path = Path(folder) / name
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(FileError, match=r"inside its header|bytes instead of|is not valid JSON"):
        export(folder, "merged", out)
    assert not (out / "models").exists()


def test_a_base_that_cant_be_had_is_said_to_be_missing(make_adapter, out):
    folder = make_adapter("nano")
    with pytest.raises(OfflineError, match="neither in the local cache"):
        export(folder, "merged", out, model="nobody/nothing")
    assert not (out / "models" / "tuned-merged").exists()


@pytest.mark.parametrize("to", ["merged", "gguf"])
def test_a_file_that_cant_be_written_leaves_nothing_behind(make_adapter, out, to):
    """A limit on the size of files stands in for a full disk: the system refuses in the middle of the weights."""
    folder = make_adapter("nano")
    code = (
        "import resource, signal, sys\n"
        "from slmbench.catalog import default_catalog\n"
        "from slmbench.deployment import export_adapter\n"
        "from slmbench.errors import SlmbenchError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "try:\n"
        "    export_adapter(sys.argv[1], sys.argv[3], default_catalog(), out=sys.argv[2])\n"
        "except SlmbenchError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, folder, str(out), to], capture_output=True, text=True)
    assert "can't be written" in done.stdout, done.stderr
    assert list((out / "models").iterdir()) == []
