"""From names to places: declarations, twins, folders and hub ids."""

from __future__ import annotations

import json

import pytest

from slmbench.catalog import Catalog, default_catalog
from slmbench.errors import OfflineError, UsageError
from slmbench.metrics._bert import BertSettings
from slmbench.models import load_config, load_model, resolve_model
from slmbench.models._base import _identity
from slmbench.paths import bundled_root, cache_dir


def test_declared_model_brings_what_its_declaration_says():
    source = resolve_model("phi-3.5-mini-instruct", default_catalog())
    assert (source.location, source.architecture, source.family) == (
        "microsoft/Phi-3.5-mini-instruct",
        "causal",
        "phi3",
    )
    assert source.lora_targets == ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
    assert (source.context_tokens, source.tied_head, source.gated, source.twin) == (131072, False, False, False)


def test_a_twin_has_a_name_and_a_folder_of_its_own_and_its_models_targets():
    source = resolve_model("flan-t5-small", default_catalog(), twin=True)
    assert (source.name, source.id, source.twin) == ("flan-t5-small-twin", "slmbench/flan-t5-small-twin", True)
    assert source.location.startswith(cache_dir())
    assert (source.architecture, source.context_tokens, source.lora_targets[0]) == ("seq2seq", 512, "q")


def test_nano_is_its_own_twin():
    catalog = default_catalog()
    assert resolve_model("nano", catalog, twin=True) == resolve_model("nano", catalog)
    assert resolve_model("nano", catalog).family == "nano"


@pytest.mark.parametrize("name", ["someone/some-model", "no-such-model", "."])
def test_a_twin_of_what_is_not_declared_is_refused_with_those_that_are(name):
    with pytest.raises(UsageError, match=r"has no twin; these have one: .*llama-3\.2-3b, nano, phi-3\.5"):
        resolve_model(name, default_catalog(), twin=True)


def test_a_declared_model_without_twin_says_where_to_declare_one(tmp_path):
    (tmp_path / "registry" / "models").mkdir(parents=True)
    (tmp_path / "registry" / "models" / "mine.yaml").write_text(
        "summary: Mine.\nhub: me/mine\nfamily: llama\ncontext_tokens: 64\n"
    )
    catalog = Catalog([bundled_root(), str(tmp_path)])
    with pytest.raises(UsageError, match=r"'mine' has no twin; these have one: .* declare `twin` in .*mine\.yaml"):
        resolve_model("mine", catalog, twin=True)


@pytest.mark.parametrize(("said", "architecture"), [(True, "seq2seq"), (False, "causal"), (None, "causal")])
def test_a_folders_architecture_is_read_from_its_config(tmp_path, said, architecture):
    (tmp_path / "config.json").write_text(json.dumps({} if said is None else {"is_encoder_decoder": said}))
    assert resolve_model(str(tmp_path), default_catalog()).architecture == architecture


def test_gated_weights_that_are_not_here_say_how_they_are_had():
    source = resolve_model("llama-3.2-3b", default_catalog())
    with pytest.raises(OfflineError, match=r"accept its licence .* `hf download meta-llama/Llama-3\.2-3B`"):
        load_model(source)
    with pytest.raises(OfflineError):
        load_config(source)


def test_a_model_of_the_hub_is_had_from_the_mirror_and_stays_the_hubs(tmp_path, monkeypatch):
    monkeypatch.setenv("SLMBENCH_DATA", str(tmp_path))
    declared = resolve_model("smollm2-135m", default_catalog())
    folder = tmp_path / "models" / "HuggingFaceTB--SmolLM2-135M"
    folder.mkdir(parents=True)
    # A folder that isn't one yet changes nothing.
    assert resolve_model("smollm2-135m", default_catalog()) == declared and declared.hub is None
    (folder / "config.json").write_text("{}")
    for name in ("smollm2-135m", "HuggingFaceTB/SmolLM2-135M"):
        found = resolve_model(name, default_catalog())
        assert found.location == str(folder)
        # What is written down leads anywhere, with the mirror or with the hub.
        assert (found.id, found.given) == ("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M")
    assert _identity(str(folder)) == _identity("HuggingFaceTB/SmolLM2-135M")
    assert BertSettings.of("HuggingFaceTB/SmolLM2-135M", 3).location == str(folder)
    assert BertSettings.of("HuggingFaceTB/SmolLM2-135M", 3).value_name == "bertscore/SmolLM2-135M-L3-raw"
