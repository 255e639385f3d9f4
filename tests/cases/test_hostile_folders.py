"""Folders of models that somebody damaged, or made to do harm: one named error each, and soon."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slmbench.catalog import default_catalog
from slmbench.errors import FileError, SlmbenchError
from slmbench.models import load_config, load_model, load_tokenizer, resolve_model
from slmbench.models._files import stored_tensors
from slmbench.paths import package_dir
from slmbench.recipe import load_recipe
from slmbench.training import prepare_training

NANO = Path(package_dir()) / "nano" / "model"
JSON_VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from([10**9 + 1, -(10**18), 10**60, 1e300, -0.5, 1.5])
    | st.sampled_from(["", "x", "\0", "../../etc/passwd", "<|end|>", "true", "0"])
    | st.lists(st.sampled_from([0, -7, "x", None, {}]), max_size=2)
    | st.dictionaries(st.sampled_from(["a", "content", "rope_type", "0"]), st.sampled_from([1, "x", None]), max_size=2)
)
FIELDS = {
    "config.json": [
        *json.loads((NANO / "config.json").read_text()),
        *("sliding_window", "rope_scaling", "quantization_config", "auto_map", "is_encoder_decoder", "torch_dtype"),
    ],
    "generation_config.json": [
        *json.loads((NANO / "generation_config.json").read_text()),
        *("temperature", "top_k", "num_beams", "max_new_tokens", "suppress_tokens", "repetition_penalty"),
    ],
    "tokenizer_config.json": [
        *json.loads((NANO / "tokenizer_config.json").read_text()),
        *("chat_template", "added_tokens_decoder", "bos_token", "add_eos_token", "padding_side", "auto_map"),
    ],
    "special_tokens_map.json": ["eos_token", "pad_token", "unk_token", "additional_special_tokens"],
}
DAMAGE = st.sampled_from([(file, key) for file, keys in FIELDS.items() for key in keys])
WITHOUT_EFFECT = ("architectures", "transformers_version", "dtype", "torch_dtype", "pretraining_tp", "use_cache")


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """damaged(file, key, value) -> the folder of the embedded model with one value changed."""
    folder = tmp_path_factory.mktemp("models") / "damaged"

    def make(file, key, value):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for path in NANO.iterdir():
            os.symlink(path, folder / path.name)
        kept = json.loads((NANO / file).read_text()) if (NANO / file).exists() else {}
        (folder / file).unlink(missing_ok=True)
        (folder / file).write_text(json.dumps(kept | {key: value}))
        return folder

    return make


def _read(folder):
    """What a folder says of what is computed: its config, where texts end, its tokens of a text."""
    import transformers

    source = resolve_model(str(folder), default_catalog())
    config = load_config(source).to_dict()
    drawn = transformers.GenerationConfig.from_pretrained(str(folder)).to_dict()
    tokenizer = load_tokenizer(source)
    facts = {key: value for key, value in config.items() if key not in (*WITHOUT_EFFECT, "_name_or_path")}
    return facts, drawn["eos_token_id"], tokenizer.encode("A note.<|end|>\n\nIt ends  here"), tokenizer.chat_template


@pytest.fixture(scope="module")
def sound():
    return _read(NANO)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(where=DAMAGE, value=JSON_VALUES)
def test_a_value_of_another_type_is_refused_or_changes_nothing(damaged, sound, where, value):
    file, key = where
    before = json.loads((NANO / file).read_text()).get(key) if (NANO / file).exists() else None
    folder = damaged(file, key, value)
    try:
        found = _read(folder)
    except SlmbenchError as error:
        assert str(folder.name) in str(error)
        return
    # A sound value of the same kind may well be another model's.
    if before is not None and value is not None and type(value) is not type(before):
        allowed = {int: float, float: int}
        if allowed.get(type(before)) is not type(value) and key not in ("eos_token_id", "pad_token_id", "bos_token_id"):
            assert found == sound


BROKEN = {
    "cut off": b'{"model_type": "llama", "vocab',
    "a list": b"[]",
    "deep": b'{"a": ' * 100_000 + b"1" + b"}" * 100_000,
    "a number of 9,000 digits": b'{"model_type": "llama", "vocab_size": 1' + b"0" * 9_000 + b"}",
    "no UTF-8": b'{"model_type": "\xff\xfe"}',
    "half a character": b'{"model_type": "\\ud800"}',
    "NaN": b'{"model_type": "llama", "rms_norm_eps": NaN}',
    "twice": b'{"vocab_size": 5, "vocab_size": 6}',
    "empty": b"",
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"])
def test_a_file_that_is_no_sound_json_is_named(clone, file, kind):
    folder = clone()
    (folder / file).write_bytes(BROKEN[kind])
    with pytest.raises(SlmbenchError, match=rf"(?s)other.*{re.escape(file)}"):
        _read(folder)


def test_all_faults_of_a_folder_are_told_at_once(clone, edit):
    folder = clone()
    edit(folder / "config.json", vocab_size="many", num_hidden_layers=0)
    edit(folder / "tokenizer_config.json", padding_side="up")
    with pytest.raises(FileError) as caught:
        load_config(resolve_model(str(folder), default_catalog()))
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"hidden_size": 10**9}, "says hidden_size 1,000,000,000, and no tensor"),
        ({"vocab_size": 7}, "says vocab_size 7, and no tensor"),
        ({"num_hidden_layers": 900}, "says 900 layers, and the weights are 38 tensors"),
    ],
)
def test_sizes_that_the_weights_do_not_have_take_no_memory(clone, edit, sizes, said):
    folder = clone()
    edit(folder / "config.json", **sizes)
    with pytest.raises(SlmbenchError, match=said):
        load_config(resolve_model(str(folder), default_catalog()))


RECIPE = """\
summary: Two steps.
model: {model}
adapters: {{note: {{tasks: [nano_note]}}}}
rows: 4
optim: {{steps: 2, batch: 2}}
on_contamination: warn
evaluation: {{tasks: [nano_note], limit: 2}}
"""


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"hidden_act": "x"}, "'x', the value of hidden_act"),
        ({"model_type": "x"}, "has model type `x`"),
        ({"auto_map": {"AutoConfig": "x.Y"}}, ""),
        ({"head_dim": 7}, "head_dim"),
    ],
)
def test_a_config_that_makes_no_model_is_a_named_error_before_and_at_loading(clone, edit, tmp_path, values, said):
    folder = clone()
    edit(folder / "config.json", **values)
    path = tmp_path / "odd.yaml"
    path.write_text(RECIPE.format(model=folder))
    catalog = default_catalog()
    source = resolve_model(str(folder), catalog)
    ways = (
        lambda: prepare_training(load_recipe(str(path), catalog), "note", catalog, source),
        lambda: load_model(source),
    )
    if not said:  # Code of a model's own is not asked for, and a class of that kind is known.
        for way in ways:
            way()
        return
    for way in ways:
        with pytest.raises(SlmbenchError, match=f"(?s)other.*{said}"):
            way()


def _write(path, header, data=b"\0" * 16):
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


TENSOR = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"{", "is not valid JSON"),
        (b"[" * 5000, "nested more than"),
        ({"a": {**TENSOR, "shape": [-1]}}, "a.shape.0 is -1"),
        ({"a": {**TENSOR, "shape": "x"}}, "a.shape is"),
        ({"a": {**TENSOR, "data_offsets": [0]}}, "a.data_offsets is"),
        ({"a": {"dtype": 1}}, "a.dtype is 1"),
        ({"a": {**TENSOR, "data_offsets": [0, 17]}}, "it was cut off"),
        ({"a": 5}, "has to be an object"),
    ],
)
def test_a_header_of_weights_that_is_odd_is_named(tmp_path, header, said):
    _write(tmp_path / "model.safetensors", header)
    with pytest.raises(FileError, match=said):
        stored_tensors(str(tmp_path))


@pytest.mark.parametrize("data", [b"", b"\0" * 4, struct.pack("<Q", 2**62), struct.pack("<Q", 50) + b"{}"])
def test_weights_that_end_too_soon_are_named(tmp_path, data):
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(FileError, match="inside its header"):
        stored_tensors(str(tmp_path))


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({"weight_map": {"a": "../../secret.safetensors"}}, "the name of a file beside the index"),
        ({"weight_map": {"a": "/etc/passwd"}}, "the name of a file beside the index"),
        ({"weight_map": {"a": "x\0y"}}, "the name of a file beside the index"),
        ({"weight_map": {"a": "gone.safetensors"}}, "names files that do not exist: gone.safetensors"),
        ({"weight_map": {"a": "here.safetensors", "b": "here.safetensors"}}, "1 tensors that are in none of its files"),
        ({"weight_map": {"a": 5}}, "weight_map.a is 5, has to be a text"),
        ({"weight_map": []}, "weight_map is an empty list, has to be an object"),
        ({"weight_map": {}}, "weight_map"),
        ({}, "weight_map is missing"),
        ([], "has to be an object"),
    ],
)
def test_an_index_of_weights_that_leads_elsewhere_is_named(tmp_path, index, said):
    _write(tmp_path / "here.safetensors", {"a": TENSOR})
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FileError, match=said):
        stored_tensors(str(tmp_path))


def test_an_index_whose_files_are_there_is_read(tmp_path):
    _write(tmp_path / "one.safetensors", {"a": TENSOR})
    _write(tmp_path / "two.safetensors", {"b": {**TENSOR, "dtype": "U8", "shape": [4, 4]}})
    places = {"a": "one.safetensors", "b": "two.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    found = stored_tensors(str(tmp_path))
    assert found.dtypes == {"a": "F32", "b": "U8"}
    assert found.packed == ["b"]
    assert stored_tensors(str(tmp_path / "nothing")) is None
