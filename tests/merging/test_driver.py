"""Merges from files to files."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from slmbench.errors import DataError, SlmbenchError, UsageError
from slmbench.merging import merge


def _read(folder):
    from safetensors.torch import load_file

    return load_file(os.path.join(folder, "model.safetensors"))


def _off(tensor, exact):
    """How far a tensor is off, relative to its largest number."""
    return float((tensor.double() - exact).abs().max() / exact.abs().max())


def _load(folder):
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder)
    auto = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    return auto.from_pretrained(folder)


def _change(folder, to, change):
    """A copy of a checkpoint, its tensors changed by a function that returns them."""
    from safetensors.torch import save_file

    shutil.copytree(folder, to)
    save_file(change(_read(folder)), os.path.join(to, "model.safetensors"), {"format": "pt"})
    return str(to)


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_whole_checkpoints_are_averaged_and_load(kind, folders, plan, catalog):
    import torch

    made = merge(plan(folders[kind][1:], weights={"a": 1, "b": 2, "c": 1}), catalog)
    inputs = [_read(folder) for folder in folders[kind][1:]]
    found = _read(made.folder)
    assert found.keys() == inputs[0].keys()
    for name, tensor in found.items():
        a, b, c = (one[name].double() for one in inputs)
        assert _off(tensor, (a + 2 * b + c) / 4) < 1e-6
    torch.testing.assert_close(_load(made.folder).state_dict()["lm_head.weight"], _read_head(found))
    assert made.record.told == "linear of a, b, c"
    assert [one.weight for one in made.record.inputs] == [1, 2, 1]


def _read_head(tensors):
    return tensors["lm_head.weight"] if "lm_head.weight" in tensors else tensors["model.embed_tokens.weight"]


def test_task_vectors_are_taken_from_the_base(folders, plan, catalog):

    base, *inputs = folders["t5"]
    made = merge(plan(inputs, base, method="task_arithmetic", parameters={"lambda": 0.5}), catalog)
    start, tensors = _read(base), [_read(folder) for folder in inputs]
    for name, tensor in _read(made.folder).items():
        change = sum(one[name].double() - start[name].double() for one in tensors)
        assert _off(tensor, start[name].double() + 0.5 * change) < 1e-6
    assert made.record.base.sha256 and made.record.parameters["lambda"] == 0.5


def test_shards_go_in_and_come_out(folders, plan, catalog, tmp_path, monkeypatch):
    import torch

    whole = merge(plan(folders["llama"][1:], name="whole"), catalog)
    sharded = str(tmp_path / "sharded")
    _load(folders["llama"][1]).save_pretrained(sharded, max_shard_size="10KB")
    assert os.path.isfile(os.path.join(sharded, "model.safetensors.index.json"))
    monkeypatch.setattr("slmbench.merging._writer.SHARD_BYTES", 8000)
    made = merge(plan([sharded, *folders["llama"][2:]], name="parts"), catalog)
    files = [name for name in os.listdir(made.folder) if name.endswith(".safetensors")]
    assert len(files) > 2 and "model.safetensors.index.json" in os.listdir(made.folder)
    assert all(os.path.getsize(os.path.join(made.folder, name)) < 10_000 for name in files)
    expected, found = _load(whole.folder).state_dict(), _load(made.folder).state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_tied_tensor_is_one_whatever_each_file_calls_it(folders, plan, catalog, tmp_path):
    """As transformers 5 reads a T5 without `shared.weight` from its head, the first of the names is written."""
    import torch

    def renamed(tensors):
        tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"].clone()
        tensors["decoder.embed_tokens.weight"] = tensors.pop("shared.weight")
        return tensors

    other = _change(folders["t5"][2], tmp_path / "renamed", renamed)
    plain = merge(plan(folders["t5"][1:3], name="plain"), catalog)
    made = merge(plan([folders["t5"][1], other]), catalog)
    assert _read(made.folder).keys() == _read(plain.folder).keys()
    assert all(torch.equal(tensor, _read(plain.folder)[name]) for name, tensor in _read(made.folder).items())


def test_numbers_follow_the_layers_and_the_names(folders, plan, catalog):
    """What is in no layer takes the first value, as with mergekit 0.1.5."""
    weights = {"a": [1, 0], "b": [{"filter": "mlp", "value": 0.25}, {"value": [0, 1]}]}
    parameters = {"normalize": False}
    made = merge(plan(folders["llama"][1:3], weights=weights, parameters=parameters), catalog)
    a, b = (_read(folder) for folder in folders["llama"][1:3])
    found = _read(made.folder)
    for name, share_a, share_b in (
        ("model.embed_tokens.weight", 1, 0),
        ("model.norm.weight", 1, 0),
        ("model.layers.0.self_attn.q_proj.weight", 1, 0),
        ("model.layers.1.self_attn.q_proj.weight", 0.5, 0.5),
        ("model.layers.2.self_attn.q_proj.weight", 0, 1),
        ("model.layers.1.mlp.up_proj.weight", 0.5, 0.25),
    ):
        assert (found[name] - share_a * a[name] - share_b * b[name]).abs().max() < 1e-6, name


def test_a_narrow_result_says_what_rounding_took_of_the_change(folders, plan, catalog):
    import torch

    made = merge(plan(folders["llama"][1:3], folders["llama"][0], method="task_arithmetic", dtype="bfloat16"), catalog)
    found, base = _read(made.folder), _read(folders["llama"][0])
    assert {tensor.dtype for tensor in found.values()} == {torch.bfloat16}
    assert json.loads(Path(made.folder, "config.json").read_text())["dtype"] == "bfloat16"
    name = "model.layers.0.mlp.up_proj.weight"
    exact = sum(_read(folder)[name].double() for folder in folders["llama"][1:3]) - base[name].double()
    lost = (found[name].double() - exact).norm() / (exact - base[name].double()).norm()
    assert made.record.tensors[name]["rounding"] == pytest.approx(float(lost), rel=1e-3)
    assert made.record.totals["rounding"]["largest"] > 0.001


def test_the_same_merge_again_is_there_and_another_takes_its_place(folders, plan, catalog, said):
    first = merge(plan(folders["llama"][1:3]), catalog)
    stamp = os.stat(os.path.join(first.folder, "model.safetensors")).st_mtime_ns
    assert merge(plan(folders["llama"][1:3]), catalog) == first
    assert os.stat(os.path.join(first.folder, "model.safetensors")).st_mtime_ns == stamp
    assert "already exists" in said[-1]
    other = merge(plan(folders["llama"][1:3], weights={"b": 3}), catalog)
    assert other.record.sha256 != first.record.sha256 and "it is replaced" in said[-1]
    path = os.path.join(other.folder, "config.json")
    with open(path, "a") as file:
        file.write(" ")
    merge(plan(folders["llama"][1:3], weights={"b": 3}), catalog)
    assert not Path(path).read_text().endswith(" ") and "has changed since it was merged" in said[-1]


def test_a_record_is_sealed_and_its_recipe_merges_the_same(folders, plan, catalog):
    from slmbench.errors import FileError
    from slmbench.runs import read_merge

    made = merge(plan(folders["llama"][1:3]), catalog)
    path = os.path.join(made.folder, "merge.json")
    record = json.loads(Path(path).read_text())
    assert record["identity_sha256"] == made.record.identity_sha256 and len(record["tensors"]) == 29
    with open(path, "w") as file:
        json.dump(record | {"method": "ties"}, file)
    with pytest.raises(FileError, match="record_sha256"):
        read_merge(made.folder)


def _nan(tensors):
    tensors["model.norm.weight"][3] = float("nan")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = float("inf")
    return tensors


def _without(tensors):
    del tensors["model.norm.weight"]
    return tensors


def _wider(tensors):
    import torch

    tensors["model.embed_tokens.weight"] = torch.cat([tensors["model.embed_tokens.weight"]] * 2)
    return tensors


def _untied(tensors):
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1
    return tensors


def _packed(tensors):
    import torch

    tensors["model.layers.0.mlp.up_proj.weight"] = torch.zeros(10, dtype=torch.uint8)
    return tensors


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_nan, ["b: model.layers.1.mlp.up_proj.weight has NaN or an infinity", "b: model.norm.weight has NaN"]),
        (_without, ["b lacks tensors that a has: model.norm.weight"]),
        (_wider, [r"b and a: model.embed_tokens.weight is \[120, 16\] and \[60, 16\]"]),
        (_untied, ["b has a lm_head.weight of its own, and in a it is tied to model.embed_tokens.weight"]),
        (_packed, ["packed into few bits", "float32 or bfloat16 weights"]),
    ],
)
def test_bad_tensors_are_told_by_name_and_nothing_is_left(change, told, folders, plan, catalog, tmp_path):
    bad = _change(folders["llama"][2], tmp_path / "bad", change)
    with pytest.raises(SlmbenchError) as caught:
        merge(plan([folders["llama"][1], bad]), catalog)
    for text in told:
        assert re.search(text, str(caught.value)), caught.value
    assert os.listdir(tmp_path / "out" / "models") == []


def test_all_bad_inputs_are_told_at_once(folders, plan, catalog, tmp_path):
    cut = shutil.copytree(folders["llama"][1], tmp_path / "cut")
    with open(os.path.join(cut, "model.safetensors"), "r+b") as file:
        file.truncate(5000)
    pickled = shutil.copytree(folders["llama"][1], tmp_path / "pickled")
    os.rename(os.path.join(pickled, "model.safetensors"), os.path.join(pickled, "pytorch_model.bin"))
    with pytest.raises(DataError) as caught:
        merge(plan([folders["llama"][1], cut, pickled, tmp_path / "nowhere"]), catalog)
    told = str(caught.value)
    assert "b: " in told and "it was cut off" in told and "c (" in told and "are a pickle (pytorch_model.bin)" in told
    assert "nowhere" in told and told.count("merge made: ") == 3
    assert os.listdir(tmp_path / "out" / "models") == []


def test_other_architectures_are_told(folders, plan, catalog, tmp_path):
    def altered(config):
        return config | {"num_attention_heads": 4, "head_dim": 4}

    other = shutil.copytree(folders["llama"][1], tmp_path / "other")
    path = os.path.join(other, "config.json")
    with open(path) as file:
        config = json.load(file)
    with open(path, "w") as file:
        json.dump(altered(config), file)
    with pytest.raises(DataError, match=r"b and a differ in num_attention_heads of config.json: 4 and 2"):
        merge(plan([folders["llama"][1], other]), catalog)
    with pytest.raises(DataError, match="different architectures: T5ForConditionalGeneration and LlamaForCausalLM"):
        merge(plan([folders["llama"][1], folders["t5"][1]]), catalog)


def test_a_plan_is_held_against_itself_first(folders, plan, catalog, tmp_path):
    a, b = folders["llama"][1:3]
    bad = plan([("a", a), ("a", b), ("c", a)], weights={"z": 1, "a": []}, rank=4, dtype="int8", name="../up")
    with pytest.raises(UsageError) as caught:
        merge(bad, catalog)
    told = str(caught.value)
    for text in (
        "two inputs are named 'a'",
        "inputs 'a' and 'c' are the same",
        "there is no input 'z'",
        "weights.a: a value, a list",
        "rank is of a LoRA",
        "dtype 'int8'",
        "name '../up'",
    ):
        assert text in told
    assert not os.path.exists(tmp_path / "out")
    for wrong, text in (
        ({"parameters": {"density": 0}, "method": "ties"}, "density is a .*number in"),
        ({"parameters": {"densty": 0.5}, "method": "ties"}, "did you mean 'density'"),
        ({"weights": {"a": 1, "b": -1}}, "sum"),
        ({"weights": {"a": "x"}}, "weights.a: a weight is a number; got 'x'"),
        ({"weights": [{"filter": "mlp", "value": True}, {"value": 1}]}, "a weight is a number; got True"),
        ({"method": "tis"}, "did you mean 'ties'"),
    ):
        with pytest.raises(UsageError, match=text):
            merge(plan([a, b], folders["llama"][0], **wrong), catalog)
    with pytest.raises(UsageError, match="ties needs a base"):
        merge(plan([a, b], method="ties"), catalog)


def test_a_result_is_not_merged_into_itself_and_other_folders_are_left_alone(folders, plan, catalog):
    made = merge(plan(folders["llama"][1:3]), catalog)
    with pytest.raises(UsageError, match="is the folder that the result goes to"):
        merge(plan([made.folder, folders["llama"][3]]), catalog)
    os.unlink(os.path.join(made.folder, "merge.json"))
    with pytest.raises(UsageError, match="no merge wrote it"):
        merge(plan(folders["llama"][1:3]), catalog)


def test_buffers_of_whole_numbers_have_to_be_equal(folders, plan, catalog, tmp_path):
    import torch

    def with_buffer(number):
        return lambda tensors: tensors | {"model.seen": torch.tensor([number, 2])}

    a = _change(folders["llama"][1], tmp_path / "a", with_buffer(1))
    b = _change(folders["llama"][2], tmp_path / "b", with_buffer(1))
    c = _change(folders["llama"][3], tmp_path / "c", with_buffer(3))
    assert _read(merge(plan([a, b]), catalog).folder)["model.seen"].tolist() == [1, 2]
    with pytest.raises(DataError, match=r"model\.seen is of whole numbers .* differs between a and b"):
        merge(plan([a, c]), catalog)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_what_ends_a_merge_midway_leaves_what_was_there(error, folders, plan, catalog, monkeypatch):
    first = merge(plan(folders["llama"][1:3]), catalog)
    before = _read(first.folder)
    real, calls = os.fsync, []

    def ends(handle):
        calls.append(handle)
        raise error

    monkeypatch.setattr("slmbench.merging._writer.os.fsync", ends)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else SlmbenchError) as caught:
        merge(plan(folders["llama"][1:3], weights={"a": 2}), catalog)
    monkeypatch.setattr("slmbench.merging._writer.os.fsync", real)
    assert calls and ("disk is full" in str(caught.value) or isinstance(error, KeyboardInterrupt))
    assert os.listdir(os.path.dirname(first.folder)) == ["made"]
    assert all((before[name] == tensor).all() for name, tensor in _read(first.folder).items())


def test_what_a_killed_merge_left_is_mended(folders, plan, catalog):
    first = merge(plan(folders["llama"][1:3]), catalog)
    shelf = os.path.dirname(first.folder)
    os.makedirs(os.path.join(shelf, ".made.partial", "half"))
    os.rename(first.folder, os.path.join(shelf, ".made.old"))
    open(os.path.join(shelf, ".made.lock"), "w").close()
    assert merge(plan(folders["llama"][1:3]), catalog).record == first.record
    assert os.listdir(shelf) == ["made"]
