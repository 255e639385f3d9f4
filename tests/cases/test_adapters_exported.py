"""Adapters of any origin leave for where models are run: from their own base, in their own layout, or with a reason."""

from __future__ import annotations

import copy
import json
import os
import shutil

import pytest

from slmbench.catalog import default_catalog
from slmbench.deployment import export_adapter
from slmbench.errors import UsageError
from slmbench.models import load_model, resolve_model
from slmbench.schema import QuantizationSpec


@pytest.fixture(scope="module")
def nano():
    return load_model(resolve_model("nano", default_catalog()))


@pytest.fixture
def make(nano, tmp_path):
    """make(config=..., base=..., model=...) -> the folder of an adapter as plain peft saves it."""
    import peft
    import torch

    def write(config=None, base=None, model=None, name="tuned"):
        torch.manual_seed(0)
        settings = {
            "r": 4,
            "target_modules": ["q_proj", "v_proj"],
            "init_lora_weights": False,
            "task_type": "CAUSAL_LM",
        }
        tuned = peft.get_peft_model(copy.deepcopy(model or nano.model), config or peft.LoraConfig(**settings))
        place = tmp_path / name
        tuned.save_pretrained(place)
        if base is not None:
            path = place / "adapter_config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": base}))
        return place

    return write


def _export(folder, out, to="merged", **options):
    return export_adapter(str(folder), to, default_catalog(), out=str(out), **options)


def _record(folder, loaded, base, **more):
    record = {
        "schema": 3,
        "model": base["name"],
        "base": base,
        "base_weights_sha256": loaded.weights_sha256,
        "quantization": loaded.quantization,
        "dtype": loaded.dtype,
        "settings": {"method": "lora", "format": "plain"},
        "tasks": {"nano_arithmetic": {}},
    }
    (folder / "training.json").write_text(json.dumps(record | more))


def test_a_base_that_was_a_folder_is_found_by_its_path_not_by_its_name(nano, make, tmp_path):
    # A folder that is called as a model of the registry is, and isn't that one.
    base = tmp_path / "models" / "llama-3.2-1b-instruct"
    shutil.copytree(nano.source.location, base)
    loaded = load_model(resolve_model(str(base), default_catalog()))
    folder = make(base="models/llama-3.2-1b-instruct")
    place = {"name": base.name, "id": "models/llama-3.2-1b-instruct", "location": str(base), "revision": None}
    _record(folder, loaded, place)
    assert _export(folder, tmp_path / "out").record["model"]["id"] == str(base)
    shutil.rmtree(base)
    with pytest.raises(UsageError) as caught:
        _export(folder, tmp_path / "out")
    said = str(caught.value)
    assert str(base) in said and "--model" in said and "did you mean" not in said
    assert _export(folder, tmp_path / "out", model="nano").record["model"]["name"] == "nano"


def test_a_training_writes_where_its_base_was(tmp_path, nano):
    from slmbench.training._record import _base

    shutil.copytree(nano.source.location, tmp_path / "base")
    said = _base(resolve_model(str(tmp_path / "base"), default_catalog()))
    assert (said["name"], said["location"]) == ("base", str(tmp_path / "base"))
    assert _base(nano.source)["id"] == "slmbench/nano" and os.path.isdir(_base(nano.source)["location"])


def test_a_base_that_came_packed_is_unpacked_as_one_that_was_packed_here(make, tmp_path):
    packed = load_model(resolve_model("nano", default_catalog()), quantization=QuantizationSpec())
    base = tmp_path / "packed"
    packed.model.save_pretrained(base)
    packed.tokenizer.save_pretrained(base)
    loaded = load_model(resolve_model(str(base), default_catalog()))
    assert loaded.quantization == "nf4+double"
    folder = make(base=str(base))
    place = {"name": "packed", "id": str(base), "location": str(base), "revision": None}
    _record(folder, loaded, place)
    made = _export(folder, tmp_path / "out", dtype="float32")
    measured = made.record["merge"]
    assert measured["as_evaluated"]["quantization"] == {"type": "nf4", "double": True}
    assert measured["largest_difference"] <= measured["tolerance"] * measured["largest_logit"]


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig", "PromptEncoderConfig", "bias"])
def test_what_no_sum_of_weights_says_is_refused_in_a_line(make, tmp_path, kind):
    import peft

    if kind == "bias":
        options = {"r": 4, "target_modules": ["q_proj"], "lora_bias": True, "init_lora_weights": False}
        config = peft.LoraConfig(task_type="CAUSAL_LM", **options)
    else:
        config = getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=4)
    with pytest.raises(UsageError) as caught:
        _export(make(config, base="slmbench/nano"), tmp_path / "out")
    said = str(caught.value)
    assert "can't be merged into its base" in said and "\n" not in said
    assert not list((tmp_path / "out").glob("*/*"))


def test_an_adapter_of_another_tool_on_a_chat_model_leaves_with_its_chat_template(nano, make, tmp_path):
    folder = make(base="slmbench/nano")
    with pytest.raises(UsageError, match=r"give --format chat .* --format plain"):
        _export(folder, tmp_path / "a", "ollama")
    asked = _export(folder, tmp_path / "a", "ollama", format="chat")
    nano.tokenizer.save_pretrained(folder)
    found = _export(folder, tmp_path / "b", "ollama")
    texts = [(tmp_path / place / "models" / "tuned-ollama" / "Modelfile").read_text() for place in "ab"]
    assert texts[0] == texts[1] and "<|assistant|>" in texts[0] and asked.record["format"] == "chat"
    assert any("laid out by its chat template" in notice for notice in found.notices)
    plain = _export(folder, tmp_path / "c", "ollama", format="plain")
    assert plain.record["format"] == "plain"
    _record(folder, nano, {"name": "nano", "id": "slmbench/nano", "location": nano.source.location, "revision": None})
    with pytest.raises(UsageError, match=r"--format chat: it was trained on plain"):
        _export(folder, tmp_path / "d", "ollama", format="chat")


def test_an_adapters_own_tokenizer_and_added_tokens_go_into_the_folder(nano, make, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    own = AutoTokenizer.from_pretrained(nano.source.location)
    own.add_tokens(["<thought>"])
    own.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    model = copy.deepcopy(nano.model)
    model.resize_token_embeddings(len(own))
    folder = make(model=model, base="slmbench/nano")
    own.save_pretrained(folder)
    made = _export(folder, tmp_path / "out", dtype="float32")
    there = AutoTokenizer.from_pretrained(made.folder)
    assert there.get_vocab() == own.get_vocab() and there.chat_template == own.chat_template
    assert AutoModelForCausalLM.from_pretrained(made.folder).get_input_embeddings().num_embeddings == len(own)
    assert any("a tokenizer of its own" in notice for notice in made.notices)
    with pytest.raises(UsageError, match="--force-base"):
        _export(make(base="acme/other", name="other"), tmp_path / "out", model="nano")
    forced = _export(tmp_path / "other", tmp_path / "out", model="nano", force_base=True)
    assert "was made on acme/other" in forced.record["forced_base"]
