"""What an adapter's files say is read by strict models: any change of a field is a value or a named error, soon."""

from __future__ import annotations

import copy
import json
import struct
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slmbench.catalog import default_catalog
from slmbench.errors import FileError, SlmbenchError, UsageError
from slmbench.models import attach_adapter, load_model, read_adapter, resolve_model
from slmbench.models._digest import weights_sha256
from slmbench.runs import read_training

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from(
        [10**9, 2**70, -1.5, 0.5, 1e300, "x", "", "(a+)+$", "\u202e", [], [1], ["x"], [[0, 1]], {}, {"q": 1}]
    ),
)
RECORD = {
    "schema": 3,
    "recipe": "r",
    "settings": {"method": "lora", "format": "plain", "lora": {"rank": 4, "dora": False}, "quantization": None},
    "method": "lora",
    "model": "nano",
    "base": {"name": "nano", "id": "slmbench/nano", "location": "/x", "revision": None, "twin": False},
    "base_weights_sha256": "",
    "quantization": None,
    "dtype": "float32",
    "tasks": {"nano_choice": {"rows": 3, "dropped": {"why": 1}}},
    "curves": {"train": [{"step": 1, "tasks": {"nano_choice": {"loss": 1.0, "tokens": 9}}}], "validation": []},
    "memory": {"peak_bytes": 1},
    "seed": 0,
    "steps": 4,
    "train_s": 1.5,
}


@pytest.fixture(scope="module")
def nano():
    return load_model(resolve_model("nano", default_catalog()))


@pytest.fixture(scope="module")
def folder(nano, tmp_path_factory):
    import peft

    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], init_lora_weights=False)
    tuned = peft.get_peft_model(copy.deepcopy(nano.model), config)
    place = tmp_path_factory.mktemp("adapters") / "tuned"
    tuned.save_pretrained(place)
    return place


@pytest.fixture
def sound(folder, nano):
    """The folder, with sound files; whatever a test does to them is undone."""
    config = json.loads((folder / "adapter_config.json").read_text())
    weights = (folder / "adapter_model.safetensors").read_bytes()
    record = RECORD | {"base_weights_sha256": nano.weights_sha256}
    (folder / "training.json").write_text(json.dumps(record))
    yield folder
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(weights)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"settings": True}, "field settings is true, has to be an object"),
        ({"dtype": None}, "field dtype is null"),
        ({"tasks": 1}, "field tasks is 1, has to be an object"),
        ({"schema": 0}, "has schema 0, and this slmbench reads 1 to 3"),
        ({"base_weights_sha256": "abc"}, "field base_weights_sha256"),
        ({"settings": {"lora": {"rank": "8"}}}, 'field settings.lora.rank is "8", has to be a whole number'),
        ({"curves": {"train": [{"step": "x"}]}}, "field curves.train.0.step"),
    ],
)
def test_a_record_of_another_type_is_named_and_never_taken_for_none(sound, changes, said):
    (sound / "training.json").write_text(json.dumps(RECORD | {"base_weights_sha256": "0" * 64} | changes))
    for read in (read_training, read_adapter):
        with pytest.raises(FileError) as caught:
            read(str(sound))
        assert said in str(caught.value) and "train it again" in str(caught.value)


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(data=st.data())
def test_any_field_of_adapter_config_is_a_value_or_an_error_and_the_base_stays(sound, nano, data):
    path = sound / "adapter_config.json"
    config = json.loads(path.read_text())
    field = data.draw(st.sampled_from(sorted(config)))
    path.write_text(json.dumps(config | {field: data.draw(ODD)}))
    names = list(nano.model.state_dict())
    restore = _noted(nano.model)
    try:
        attach_adapter(nano, str(sound))
    except (UsageError, FileError) as error:
        assert str(sound) in str(error) and len(str(error)) < 2000
    finally:
        restore()
        path.write_text(json.dumps(config))
    assert list(nano.model.state_dict()) == names


def _noted(model):
    from slmbench.models._wiring import note_wiring

    return note_wiring(model, numbers=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rank_pattern": "x"}, "field rank_pattern is"),
        ({"layer_replication": [[0, 10**9]]}, "layer_replication makes the base another model"),
        ({"r": 10**9}, "field r is 1000000000, has to be 4 or less"),
        ({"rank_pattern": {"q_proj": 10**9}}, "field rank_pattern.q_proj is 1000000000"),
        ({"target_modules": "(.*.*)*x(.*.*)*"}, "is matched with this model's modules within"),
        ({"target_modules": "(("}, "a regular expression"),
        ({"exclude_modules": "((.+)+)+$z"}, "is matched with this model's modules within"),
        ({"peft_type": "LORAA"}, "which the installed peft doesn't know; did you mean 'LORA'?"),
        ({"peft_type": None}, "field peft_type is null"),
        ({"peft_type": "XLORA"}, "asks for more than tokens"),
        ({"use_rslora": "yes"}, 'field use_rslora is "yes"'),
        ({"lora_dropout": 7}, "field lora_dropout is 7"),
        ({"fan_in_fan_out": 3}, "field fan_in_fan_out is 3"),
    ],
)
def test_settings_that_would_break_or_hang_peft_are_refused_by_name_in_time(sound, nano, changes, said):
    path = sound / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    started = time.monotonic()
    with pytest.raises(SlmbenchError) as caught:
        attach_adapter(nano, str(sound))
    assert said in str(caught.value)
    assert time.monotonic() - started < 15
    assert weights_sha256(nano.model) == nano.weights_sha256


def test_a_setting_that_the_installed_peft_lacks_is_told_and_left_out(sound, nano, capsys):
    from slmbench.models import adapter_on

    path = sound / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"use_newer_math": True, "newer_config": None}))
    with adapter_on(nano, str(sound)):
        pass
    said = capsys.readouterr().err
    assert (
        "doesn't know these settings and leaves them out: use_newer_math = true" in said and "newer_config" not in said
    )


def _header(value, body=b""):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack("<Q", len(data)) + data + body


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "inside its header"),
        (struct.pack("<Q", 2**63) + b"{}", "inside its header"),
        (_header(b"[" * 5000 + b"]" * 5000), "nested more than"),
        (_header(b"\xff{}"), "is not UTF-8"),
        (_header([1]), "an object of tensors"),
        (_header({"a": 3}), "field a is 3"),
        (_header({"a": TENSOR | {"shape": [-1]}}), "whole numbers from 0 on"),
        (_header({"a": TENSOR | {"shape": "x"}}), "whole numbers from 0 on"),
        (_header({"a": TENSOR | {"shape": [10**30]}}), "data_offsets hold"),
        (_header({"a": TENSOR | {"data_offsets": [8, 0]}}), "data_offsets hold"),
        (_header({"a": TENSOR | {"data_offsets": [0]}}), "two data_offsets"),
        (_header({"a": TENSOR | {"dtype": "F33"}}), "dtype of safetensors"),
        (_header({"a": TENSOR | {"dtype": []}}), "dtype of safetensors"),
        (_header({"a": TENSOR}), "bytes instead of"),
        (_header({"a": TENSOR}, b"\0" * 9), "bytes instead of"),
    ],
)
def test_odd_headers_of_weights_are_named_errors(sound, data, said):
    Path(sound / "adapter_model.safetensors").write_bytes(data)
    with pytest.raises(FileError) as caught:
        read_adapter(str(sound))
    assert said in str(caught.value) and "adapter_model.safetensors" in str(caught.value)
