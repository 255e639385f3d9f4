"""A merged adapter's folder: an evaluation loads it exactly, on the base and in the format of its parts."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import pytest

from slmbench.errors import SlmbenchError, UsageError
from slmbench.merging.lora import merge_adapters, read_lora, trained_alike, weight_change, write_lora
from slmbench.models import adapter_on, held_as, read_adapter
from slmbench.registry import find
from slmbench.runs import read_merge, write_merge


@pytest.fixture
def two(adapter, nano):
    """Two adapters of the embedded model, of other ranks, each with a training.json."""
    made = []
    for seed, name in enumerate("ab"):
        model, targets = copy.deepcopy(nano.model), nano.source.lora_targets
        folder = adapter(name, model, seed, r=4 + seed, target_modules=targets, task_type="CAUSAL_LM")
        training = {"model": "nano", "base_weights_sha256": nano.weights_sha256, "dtype": nano.dtype}
        training |= {"settings": {"format": "chat"}, "tasks": {f"task_{name}": {}}}
        (Path(folder) / "training.json").write_text(json.dumps(training))
        made.append(read_lora(folder))
    return made


def _written(two, folder, **more):
    merged = merge_adapters(find("merge_method", "cat"), two, [0.6, -0.3])
    write_lora(str(folder), merged)
    inputs = [{"name": u.name, "path": u.folder, "kind": "adapter", "sha256": u.sha256} for u in two]
    for one, update in zip(inputs, two, strict=True):
        one["tasks"] = list(update.info.record.tasks)
    alike = {key: value for key, value in trained_alike(two).items() if key != "base"}
    record = {"name": folder.name, "result": "lora", "method": "cat", "inputs": inputs}
    digests = {"identity_sha256": "0" * 64, "sha256": read_adapter(str(folder)).sha256}
    write_merge(folder, {"schema": 1, **record, **digests, **alike, **more})
    return str(folder)


def test_logits_with_it_are_those_of_the_base_with_both_changes_added(two, nano, tmp_path):
    import torch

    folder = _written(two, tmp_path / "merged")
    ids = nano.tokenizer("The river runs to the sea.", return_tensors="pt")["input_ids"]
    dense = copy.deepcopy(nano.model)
    for update, weight in zip(two, [0.6, -0.3], strict=True):
        for name, factors in update.modules.items():
            dense.get_parameter(name).data += weight * weight_change(factors)
    with torch.no_grad(), adapter_on(nano, folder) as tuned:
        got = tuned.model(input_ids=ids).logits
    with torch.no_grad():
        wanted, base = dense(input_ids=ids).logits, nano.model(input_ids=ids).logits
    assert float((wanted - base).abs().max()) > 0.1
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_an_evaluation_knows_base_format_and_tasks_of_its_parts(two, nano, tmp_path):
    info = read_adapter(_written(two, tmp_path / "merged"))
    assert info.rank == 9
    assert info.record.settings.format == "chat" and info.record.how() is None
    assert info.record.base_weights_sha256 == nano.weights_sha256
    assert list(info.record.tasks) == ["task_a", "task_b"]
    assert held_as([info.folder]) == (nano.dtype, None)
    other = _written(two, tmp_path / "other", base_weights_sha256="9" * 64)
    with pytest.raises(UsageError, match="with weights 999999999999"), adapter_on(nano, other):
        pass


def test_of_a_packed_base_it_is_put_on_a_packed_one(two, tmp_path):
    packing = {"type": "nf4", "double": True, "compute": "auto"}
    folder = _written(two, tmp_path / "merged", base_quantization="nf4+double", base_packing=packing)
    _, asked = held_as([folder])
    assert asked is not None and asked.type == "nf4"
    assert read_merge(folder).trained.quantization == "nf4+double"


def test_what_can_not_be_written_leaves_no_half(two, tmp_path, monkeypatch):
    merged = merge_adapters(find("merge_method", "cat"), two, [1.0, 1.0])
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SlmbenchError, match="the disk is full"):
        write_lora(str(tmp_path / "merged"), merged)
    assert os.listdir(tmp_path / "merged") == []
