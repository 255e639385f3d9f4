"""Adapters: what a training writes, what it keeps, and what it never leaves half done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.errors import SlmbenchError, UsageError
from slmbench.models import attach_adapter, load_model, read_adapter, resolve_model
from slmbench.recipe import load_recipe
from slmbench.training import train_adapter

QUICK = ("optim.steps=4", "adapters.multi.steps=4", "optim.batch=4", "rows=40")


def _nano():
    return load_model(resolve_model("nano", default_catalog()))


def _train(out, name, *overrides, nano=None, progress=None):
    recipe = load_recipe("nano-quickstart", default_catalog(), (*QUICK, *overrides))
    return train_adapter(recipe, name, default_catalog(), nano or _nano(), out=str(out), progress=progress)


def test_adapter_folder_holds_peft_files_and_an_honest_record(nano, tmp_path):
    folder = Path(_train(tmp_path, "multi", nano=nano))
    assert sorted(path.name for path in folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "training.json",
    ]
    record = json.loads((folder / "training.json").read_text())
    assert record["steps"] == 4
    assert record["tasks"].keys() == {"nano_arithmetic", "nano_note", "nano_choice"}
    # 4 steps of 4 rows were seen, drawn from three tasks of 40 rows.
    assert sum(task["rows_seen"] for task in record["tasks"].values()) == 16
    assert all(task["rows"] == 40 and task["parity_rows"] > 0 for task in record["tasks"].values())
    assert record["trainable_parameters"] == read_adapter(str(folder)).parameters
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (16, 32)
    assert config["base_model_name_or_path"] == "slmbench/nano"


def test_same_seed_gives_the_same_adapter_and_another_seed_another(tmp_path):
    digests = [
        read_adapter(_train(tmp_path / out, "note", f"seed={seed}")).sha256
        for out, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_finished_adapter_is_kept_and_a_changed_recipe_trains_anew(tmp_path):
    folder = Path(_train(tmp_path, "note"))
    first = (folder / "adapter_model.safetensors").stat().st_mtime_ns
    _train(tmp_path, "note")
    assert (folder / "adapter_model.safetensors").stat().st_mtime_ns == first
    _train(tmp_path, "note", "optim.lr=1e-3")
    assert (folder / "adapter_model.safetensors").stat().st_mtime_ns != first


def test_interrupted_training_leaves_nothing_half_written_and_keeps_the_old_adapter(tmp_path):
    folder = Path(_train(tmp_path, "note"))
    before = read_adapter(str(folder)).sha256

    def interrupt(n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, "note", "optim.lr=1e-3", progress=lambda *_: interrupt)
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == ["note"]
    assert read_adapter(str(folder)).sha256 == before


def test_loss_that_is_no_number_stops_the_training(tmp_path):
    with pytest.raises(SlmbenchError, match=r"the loss became nan by step \d+; lower optim\.lr"):
        _train(tmp_path, "note", "optim.lr=1e30", "optim.clip_norm=1e30", "optim.steps=40")
    assert list((tmp_path / "adapters").iterdir()) == []


def test_adapter_of_other_weights_is_refused(nano, tmp_path):
    folder = _train(tmp_path, "note", nano=nano)
    path = Path(folder) / "training.json"
    record = json.loads(path.read_text()) | {"base_weights_sha256": "0" * 64}
    path.write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"was trained on 'nano' with weights 000000000000"):
        attach_adapter(_nano(), folder)


def test_task_without_a_train_split_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "tasks" / "bare"
    folder.mkdir(parents=True)
    (folder / "task.yaml").write_text(
        "summary: No train split.\nversion: 1\nlicense: mit\ndataset: {files: {test: test.jsonl}}\nkind: generate\n"
        'train_split: null\nprompt: {user: "{{ q }}"}\nanswer: "{{ a }}"\nmetrics: [exact_match]\n'
    )
    (folder / "test.jsonl").write_text('{"q": "x", "a": "y"}\n')
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    with pytest.raises(UsageError, match="task 'bare' has no train split"):
        _train(tmp_path / "out", "note", "adapters.note.tasks=[bare]")


def test_rows_longer_than_the_context_are_refused_up_front(tmp_path):
    with pytest.raises(UsageError, match="max_tokens is 4096, but 'nano' has a context of 1024"):
        _train(tmp_path, "note", "max_tokens=4096")


def test_adapter_of_numbers_that_are_none_is_never_written(tmp_path):
    # Shorter than a log interval.
    with pytest.raises(SlmbenchError, match=r"the loss became nan|are no numbers any more"):
        _train(tmp_path, "note", "optim.lr=1e30", "optim.clip_norm=1e30", "adapters.note.steps=5")
    assert list((tmp_path / "adapters").iterdir()) == []


def test_rows_seen_are_those_that_were_trained_on(tmp_path, monkeypatch):
    import trl

    trained = 0
    step = trl.SFTTrainer.training_step

    def counting(self, model, inputs, *args, **kwargs):
        nonlocal trained
        trained += len(inputs["input_ids"])
        return step(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(trl.SFTTrainer, "training_step", counting)
    overrides = ("adapters.multi.steps=null", "optim.steps=null", "optim.epochs=1.5", "optim.accumulate=4", "rows=14")
    folder = Path(_train(tmp_path, "multi", *overrides))
    tasks = json.loads((folder / "training.json").read_text())["tasks"]
    assert sum(task["rows_seen"] for task in tasks.values()) == trained > 0


def test_targets_that_the_model_lacks_are_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="refuses these settings"):
        _train(tmp_path, "note", "lora.targets=[no_such_layer]")


def test_an_adapter_killed_in_its_swap_is_restored(tmp_path):
    folder = Path(_train(tmp_path, "note"))
    digest = read_adapter(str(folder)).sha256
    folder.rename(folder.with_name(".note.old"))
    _train(tmp_path, "note")
    assert read_adapter(str(folder)).sha256 == digest
    assert [path.name for path in folder.parent.iterdir()] == ["note"]


def test_two_trainings_of_one_adapter_do_not_mix(tmp_path):
    from slmbench.files import only_writer

    with only_writer(str(tmp_path / "adapters" / ".note.lock")), pytest.raises(SlmbenchError, match="another process"):
        _train(tmp_path, "note")


def _damage(folder, name, change):
    path = Path(folder) / name
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("adapter_model.safetensors", lambda data: data[:-9], "bytes instead of"),
        ("adapter_model.safetensors", lambda data: data[:40], "inside its header"),
        ("adapter_config.json", lambda data: data[:20], "is damaged"),
        ("training.json", lambda data: b"[]", "is damaged"),
        ("adapter_config.json", lambda data: data.replace(b'"r": 16', b'"r": 8'), "doesn't fit 'nano'"),
    ],
)
def test_damaged_adapters_are_refused(tmp_path, name, change, said):
    folder = _train(tmp_path, "note")
    _damage(folder, name, change)
    with pytest.raises(UsageError, match=said):
        attach_adapter(_nano(), folder)


def test_adapter_whose_tensors_match_nothing_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = _train(tmp_path, "note")
    path = Path(folder) / "adapter_model.safetensors"
    save_file({key.replace("layers", "blocks"): tensor for key, tensor in load_file(path).items()}, path)
    with pytest.raises(UsageError, match="tensors differ in name or shape"):
        attach_adapter(_nano(), folder)


def test_another_config_of_the_same_weights_trains_anew(tmp_path):
    from attrs import evolve

    folder = Path(_train(tmp_path, "note"))
    first = (folder / "adapter_model.safetensors").stat().st_mtime_ns
    _train(tmp_path, "note", nano=evolve(_nano(), config_sha256="0" * 64))
    assert (folder / "adapter_model.safetensors").stat().st_mtime_ns != first


def test_adapters_scored_one_after_another_score_as_each_alone(tmp_path):
    from slmbench.cli._work import evaluate_all
    from slmbench.task import load_task

    folders = [_train(tmp_path, name) for name in ("note", "choice")]
    options = {"format": "plain", "batch": 8, "limit": 8, "seed": 0}
    tasks, catalog = [load_task("nano_choice")], default_catalog()
    together = evaluate_all("nano", folders, tasks, catalog, out=str(tmp_path / "together"), **options)
    alone = evaluate_all("nano", folders[1:], tasks, catalog, out=str(tmp_path / "alone"), **options)
    scores = [[sample["loglikelihoods"] for sample in run.samples()] for run in (*together, *alone)]
    base, _, choice, base_again, choice_alone = scores
    assert base == base_again
    assert choice == choice_alone
    assert choice != base
