"""Adapters that can't be one: each reason is told, with both names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from slmbench.errors import UsageError
from slmbench.merging.lora import check_fit, check_together, read_lora, trained_alike
from slmbench.runs import trained_as

WEIGHTS = {"one": "1" * 64, "two": "2" * 64}


def _trained(folder, **said):
    training = {"model": "nano", "base_weights_sha256": WEIGHTS["one"], "dtype": "float32", **said}
    (Path(folder) / "training.json").write_text(json.dumps(training))
    return folder


def test_adapters_of_one_base_may_be_merged(adapter):
    check_together([read_lora(adapter(name, seed=seed)) for seed, name in enumerate("ab")])


def test_one_given_twice_is_an_error_that_says_so(adapter, tmp_path):
    shutil.copytree(adapter("a"), tmp_path / "b")
    with pytest.raises(UsageError, match=r"'a' and 'b' are the same one .* give it once, with a larger weight"):
        check_together([read_lora(str(tmp_path / name)) for name in "ab"])


def test_two_of_one_name_are_told_with_both_folders(adapter, tmp_path):
    updates = [read_lora(adapter("a")), read_lora(adapter("b", seed=1), "a")]
    with pytest.raises(UsageError, match=r"two adapters are called 'a': .*/a and .*/b"):
        check_together(updates)


def test_another_base_is_told_by_digest_and_by_name(adapter):
    a, b = adapter("a"), adapter("b", seed=1)
    _trained(a), _trained(b, base_weights_sha256=WEIGHTS["two"])
    with pytest.raises(
        UsageError, match=r"'b' was trained on 'nano' with weights 2222.*'a' on 'nano' with weights 1111"
    ):
        check_together([read_lora(a), read_lora(b)])
    # The same base held in another dtype has other digests: then its name counts.
    _trained(b, base_weights_sha256=WEIGHTS["two"], dtype="bfloat16")
    check_together([read_lora(a), read_lora(b)])
    for folder, base in ((a, "someone/one"), (b, "someone/two")):
        path = Path(folder) / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": base}))
    with pytest.raises(UsageError, match="'b' was made on someone/two, and 'a' on someone/one"):
        check_together([read_lora(a), read_lora(b)])


def test_shapes_that_differ_or_do_not_fit_are_named(adapter, tiny):
    from transformers import LlamaConfig, LlamaForCausalLM

    wide = LlamaForCausalLM(
        LlamaConfig(vocab_size=60, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4)
    )
    a, b = read_lora(adapter("a")), read_lora(adapter("b", wide, seed=1))
    with pytest.raises(UsageError, match=r"q_proj.weight is \(32, 32\) by adapter 'b', and \(24, 24\) by 'a'"):
        check_together([a, b])
    shapes = {name: tuple(value.shape) for name, value in tiny().named_parameters()}
    with pytest.raises(
        UsageError, match=r"adapter 'b' .* doesn't fit: .*q_proj.weight is \(32, 32\), and \(24, 24\) in"
    ):
        check_fit(b, shapes)
    del shapes["model.layers.1.self_attn.q_proj.weight"]
    with pytest.raises(UsageError, match=r"the base has no parameter model\.layers\.1.self_attn.q_proj.weight"):
        check_fit(a, shapes)


def test_what_all_trainings_say_alike_is_known_of_the_merged_one(adapter):
    a, b = adapter("a"), adapter("b", seed=1)
    assert trained_alike([read_lora(a), read_lora(b)]) == {}
    _trained(a, settings={"format": "chat"}), _trained(b, settings={"format": "chat"})
    alike = trained_alike([read_lora(a), read_lora(b)])
    assert alike["format"] == "chat" and alike["base_dtype"] == "float32"
    assert alike["base_weights_sha256"] == WEIGHTS["one"]
    _trained(b, settings={"format": "toon"}, dtype="bfloat16")
    alike = trained_alike([read_lora(a), read_lora(b)])
    assert alike["format"] is None and "base_weights_sha256" not in alike


def test_a_folder_without_any_record_has_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        trained_as(tmp_path)
