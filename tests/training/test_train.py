"""Adapters: what a training writes, what it keeps, and what it never leaves half done."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import safetensors.torch
from attrs import evolve

from slmbench.catalog import default_catalog
from slmbench.console import watching
from slmbench.errors import DataError, FileError, SlmbenchError, UsageError
from slmbench.models import attach_adapter, load_model, read_adapter, resolve_model
from slmbench.recipe import load_recipe
from slmbench.runs import read_training
from slmbench.training import prepare_training


def _nano():
    return load_model(resolve_model("nano", default_catalog()))


def test_adapter_folder_holds_peft_files_and_an_honest_record(train, tmp_path, said):
    folder = Path(train(tmp_path, "multi", "log_every_steps=3"))
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
    assert all(task["dropped_rows"] == 0 for task in record["tasks"].values())
    # A point every three steps, and one of what was left.
    assert [point["step"] for point in record["curves"]["train"]] == [3, 4]
    assert sum(part["rows"] for point in record["curves"]["train"] for part in point["tasks"].values()) == 16
    assert [line.split()[1] for line in said if line.startswith("step ")] == ["3/4", "4/4"]
    assert record["resumed_from"] == [] and record["mixture"]["rows"] == 16
    assert record["train_s"] == pytest.approx(record["seconds"]["steps"], abs=0.01)
    assert record["tokens_per_second"] == pytest.approx(record["mixture"]["tokens"] / record["train_s"], rel=0.05)
    assert record["bytes"] == (folder / "adapter_model.safetensors").stat().st_size
    assert record["memory"]["peak_bytes"] >= record["memory"]["first_step_bytes"] > 0
    assert record["trainable_parameters"] == read_adapter(str(folder)).parameters
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (16, 32)
    assert config["base_model_name_or_path"] == "slmbench/nano"


def test_an_adapters_own_settings_and_drawn_rows_are_those_it_is_trained_with(train, tmp_path):
    own = ("adapters.note.optim={lr: 1e-3}", "adapters.note.steps=2", "adapters.note.lora={rank: 2, targets: [q_proj]}")
    folder = train(tmp_path, "note", *own, "rows={n: 12, seed: 7}")
    tensors = safetensors.torch.load_file(os.path.join(folder, "adapter_model.safetensors"))
    assert {(name.split(".")[-3], tensor.shape[0]) for name, tensor in tensors.items() if "lora_A" in name} == {
        ("q_proj", 2)
    }
    record = read_training(folder)
    assert record.told() | {"lr": "0.001", "steps": "2", "rows": "12 by seed 7"} == record.told()
    assert record.settings.lora.rank == 2
    assert record.tasks["nano_note"].rows == 12


def test_a_loss_on_all_tokens_is_taken_of_rows_trained_on_and_kept_aside_and_is_in_the_forecast(train, tmp_path):
    options = (
        *("adapters.note.steps=2", "loss=all", "format=toon", "packing=true", "log_every_steps=1"),
        "validation={rows: 4, every_steps: 2}",
    )
    record = read_training(train(tmp_path, "note", *options))
    assert (record.settings.loss, record.told()["loss"]) == ("all", "all")
    # Each row's first token has none before it.
    task = record.tasks["nano_note"]
    seen = sum(point.tasks["nano_note"].tokens for point in record.curves.train)
    assert seen == task.tokens_seen - task.rows_seen
    catalog = default_catalog()
    recipe = load_recipe("nano-quickstart", catalog, (*train.quick, *options))
    prepared = prepare_training(recipe, "note", catalog, resolve_model("nano", catalog))
    (held,) = record.curves.validation
    assert held.tasks["nano_note"].tokens == sum(row.length - 1 for row in prepared.validation)
    batch = record.memory.forecast.largest_batch
    assert batch.answer_tokens == batch.tokens - batch.rows
    answers = prepare_training(
        recipe.with_overrides({"loss": "answer"}), "note", catalog, resolve_model("nano", catalog)
    )
    assert prepared.forecast.parts["head"] > answers.forecast.parts["head"]


def test_same_seed_gives_the_same_adapter_and_another_seed_another(train, tmp_path):
    digests = [
        read_adapter(train(tmp_path / out, "note", f"seed={seed}")).sha256
        for out, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_training_that_only_warms_up_is_told(train, tmp_path, said):
    train(tmp_path, "note", "optim.warmup_steps=9")
    assert "note: all 4 steps are warm-up (optim.warmup_steps is 9)" in said


def test_lora_settings_that_a_full_training_does_not_read_are_told(train, tmp_path, said):
    train(tmp_path, "note", "method=full", "adapters.note.steps=1", "lora.rank=2")
    assert "note: method: full trains all weights, so `lora` has no effect" in said


BROKEN = ("optim.lr=1e30", "optim.clip_norm=1e30", "adapters.multi.steps=40", "optim.warmup_steps=2")


def test_loss_that_is_no_number_stops_at_that_step_and_keeps_the_checkpoint_before(train, tmp_path):
    seen = []

    def advance(what, n):
        seen.append(n)

    said = (
        r"step \d+: the (loss|gradient) became (nan|inf) (in rows of task 'nano_\w+'|on rows of nano_.*); the training "
    )
    with pytest.raises(SlmbenchError, match=said) as caught, watching(advance):
        train(tmp_path, "multi", *BROKEN, "checkpoint.every_steps=1")
    step = int(str(caught.value).split()[1].rstrip(":"))
    assert caught.value.exit_code == 1
    assert sum(seen) == step - 1  # The step itself was not made.
    assert f"the checkpoint of step {step - 1} is kept in" in str(caught.value)
    assert "Lower optim.lr (1e+30)" in str(caught.value)
    checkpoints = sorted((tmp_path / "adapters").glob(".multi-*.partial/checkpoints/*"))
    assert checkpoints[-1].name == f"step-{step - 1:08d}"
    # It is an adapter like any other.
    attach_adapter(_nano(), str(checkpoints[-1]))


def test_the_task_whose_rows_have_the_bad_loss_is_named(train, tmp_path, monkeypatch):
    from slmbench.training import _trainer

    real = _trainer.row_losses

    def broken(model, batch, num_items=None):
        losses = real(model, batch, num_items)
        if model.training and (batch["task_id"] == 1).any():
            losses.sums[batch["task_id"] == 1] = float("nan")
        return losses

    monkeypatch.setattr(_trainer, "row_losses", broken)
    with pytest.raises(SlmbenchError, match=r"the loss became nan in rows of task 'nano_note'"):
        train(tmp_path, "multi", "adapters.multi.steps=20", "optim.accumulate=2")


def test_a_validation_loss_that_is_no_number_is_told_as_what_it_is(train, tmp_path, monkeypatch):
    from slmbench.training import _trainer

    real = _trainer.row_losses

    def broken(model, batch, num_items=None):
        losses = real(model, batch, num_items)
        if not model.training:
            losses.sums[:] = float("inf")
        return losses

    monkeypatch.setattr(_trainer, "row_losses", broken)
    overrides = ("validation={rows: 5, every_steps: 2}", "checkpoint.every_steps=1")
    said = r"step 2: the validation loss of task 'nano_note' became inf; the training was stopped after this step, and "
    with pytest.raises(SlmbenchError, match=said + "the checkpoint of step 1 is kept"):
        train(tmp_path, "note", *overrides)


def test_adapter_of_other_weights_is_refused(note, tmp_path):
    folder = note
    path = Path(folder) / "training.json"
    record = json.loads(path.read_text()) | {"base_weights_sha256": "0" * 64, "record_sha256": None}
    path.write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"was trained on 'nano' with weights 000000000000"):
        attach_adapter(_nano(), folder)


def test_task_without_a_train_split_is_refused(train, tmp_path, monkeypatch):
    folder = tmp_path / "tasks" / "bare"
    folder.mkdir(parents=True)
    (folder / "task.yaml").write_text(
        "summary: No train split.\nversion: 1\nlicense: mit\ndataset: {files: {test: test.jsonl}}\nkind: generate\n"
        'train_split: null\nprompt: {user: "{{ q }}"}\nanswer: "{{ a }}"\nmetrics: [exact_match]\n'
    )
    (folder / "test.jsonl").write_text('{"q": "x", "a": "y"}\n')
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    with pytest.raises(UsageError, match="task 'bare' has no train split"):
        train(tmp_path / "out", "note", "adapters.note.tasks=[bare]")


def test_rows_longer_than_the_context_are_refused_up_front(train, tmp_path):
    with pytest.raises(UsageError, match=r"max_tokens.*4096.*1024"):
        train(tmp_path, "note", "max_tokens=4096")


def test_adapter_of_numbers_that_are_none_is_never_written(train, tmp_path):
    # Shorter than a log interval.
    with pytest.raises(SlmbenchError, match=r"became (nan|inf)|no numbers? any more"):
        train(tmp_path, "note", "optim.lr=1e30", "optim.clip_norm=1e30", "adapters.note.steps=3")
    assert not (tmp_path / "adapters").exists()


def test_rows_seen_are_those_that_were_trained_on(train, tmp_path, monkeypatch):
    import trl

    trained = 0
    step = trl.SFTTrainer.training_step

    def counting(self, model, inputs, *args, **kwargs):
        nonlocal trained
        trained += len(inputs["task_id"])
        return step(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(trl.SFTTrainer, "training_step", counting)
    overrides = ("adapters.multi.steps=null", "optim.epochs=1.5", "optim.accumulate=4", "rows=14")
    folder = Path(train(tmp_path, "multi", *overrides))
    tasks = json.loads((folder / "training.json").read_text())["tasks"]
    assert sum(task["rows_seen"] for task in tasks.values()) == trained > 0


@pytest.mark.parametrize(("method", "same"), [("lora", False), ("full", True)])
def test_a_model_that_declares_other_targets_is_trained_anew(train, method, same):
    catalog = default_catalog()
    recipe = load_recipe("nano-quickstart", catalog, (*train.quick, f"method={method}"))
    source = resolve_model("nano", catalog)
    sources = source, evolve(source, lora_targets=("q_proj",))
    one, other = (prepare_training(recipe, "note", catalog, each).identity for each in sources)
    assert (one == other) == same


def test_targets_that_the_model_lacks_are_a_usage_error(train, tmp_path):
    with pytest.raises(UsageError, match="no_such_layer"):
        train(tmp_path, "note", "lora.targets=[no_such_layer]")
    assert list(tmp_path.glob("adapters/*")) == []


def _damage(folder, name, change):
    path = Path(folder) / name
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("adapter_model.safetensors", lambda data: data[:-9], "bytes instead of"),
        ("adapter_model.safetensors", lambda data: data[:40], "inside its header"),
        ("adapter_config.json", lambda data: data[:20], "is not valid JSON"),
        ("training.json", lambda data: b"[]", "is an empty list, has to be an object"),
        ("adapter_config.json", lambda data: data.replace(b'"r": 16', b'"r": 8'), "doesn't fit 'nano'"),
    ],
)
def test_damaged_adapters_are_refused(note, tmp_path, name, change, said):
    folder = note
    _damage(folder, name, change)
    with pytest.raises((UsageError, FileError), match=said):
        attach_adapter(_nano(), folder)


def test_adapter_whose_tensors_match_nothing_is_refused(note, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = note
    path = Path(folder) / "adapter_model.safetensors"
    save_file({key.replace("layers", "blocks"): tensor for key, tensor in load_file(path).items()}, path)
    with pytest.raises(UsageError, match="tensors differ in name or shape"):
        attach_adapter(_nano(), folder)


def test_another_config_of_the_same_weights_trains_anew(train, tmp_path):
    import shutil

    from slmbench.paths import package_dir

    copy = tmp_path / "nano-copy"
    shutil.copytree(Path(package_dir()) / "nano" / "model", copy)
    folder = Path(train(tmp_path, "note", f"model={copy}"))
    first = (folder / "adapter_model.safetensors").stat().st_mtime_ns
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    train(tmp_path, "note", f"model={copy}")
    assert (folder / "adapter_model.safetensors").stat().st_mtime_ns != first


def test_rows_kept_aside_are_in_no_step_and_their_loss_is_taken(train, tmp_path):
    overrides = ("validation={rows: 5, every_steps: 2}", "adapters.multi.steps=5", "seed=1")
    folder = Path(train(tmp_path, "multi", *overrides))
    record = json.loads((folder / "training.json").read_text())
    assert [point["step"] for point in record["curves"]["validation"]] == [2, 4, 5]
    assert all(len(point["tasks"]) == 3 for point in record["curves"]["validation"])
    assert [task["validation_rows"] for task in record["tasks"].values()] == [5, 5, 5]
    # `rows` are those that are trained on, beside them.
    assert [task["rows"] for task in record["tasks"].values()] == [40, 40, 40]


def test_a_task_too_small_to_keep_a_row_aside_is_told_before_the_steps(train, tmp_path, said):
    train(tmp_path, "note", "rows=2", "validation={rows: 1}", "max_tokens=32")
    none = "note: nano_note: none of its 2 rows can be kept aside, so it has no validation loss"
    (cut,) = (line for line in said if "lost the front of their prompt" in line)
    assert cut.startswith("note: nano_note: of 2 rows 2 lost") and "max_tokens is 32" in cut
    first = next(i for i, line in enumerate(said) if line.startswith("step "))
    assert said.index(none) < first and said.index(cut) < first
    with pytest.raises(UsageError, match="'plateau' follows the validation loss, but of 2 rows none"):
        train(tmp_path, "note", "rows=2", "validation={rows: 1}", "optim.schedule=plateau")


def test_validation_changes_no_weight(train, tmp_path):
    from safetensors.torch import load_file

    rows = ("rows=null", "validation={rows: 8, every_steps: 1}", "lora.dropout=0.1")
    often = load_file(Path(train(tmp_path / "often", "note", *rows)) / "adapter_model.safetensors")
    rows = ("rows=null", "validation={rows: 8, every_steps: 99}", "lora.dropout=0.1")
    once = load_file(Path(train(tmp_path / "once", "note", *rows)) / "adapter_model.safetensors")
    assert all((often[key] == once[key]).all() for key in {*often, *once})


def test_a_mirror_that_lacks_a_column_is_told_before_anything_is_made(train, tmp_path, write_task, monkeypatch):
    rows = '{"question": "1+1?", "reply": "2"}\n'
    write_task("sums", train=rows, test=rows)
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    with pytest.raises(DataError, match="answer") as caught:
        train(tmp_path / "out", "note", "adapters.note.tasks=[sums]", "evaluation.tasks=[sums]")
    assert caught.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_a_task_whose_rows_are_all_evaluated_too_is_told(train, tmp_path, write_task, monkeypatch):
    rows = '{"question": "How many legs has a spider?", "answer": "8"}\n'
    write_task("sums", train=rows, test=rows)
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    overrides = ("adapters.note.tasks=[sums]", "evaluation.tasks=[sums]")
    with pytest.raises(DataError, match=r"'sums': all 1 training rows are in an evaluation split too"):
        train(tmp_path / "out", "note", *overrides)
    folder = train(tmp_path / "out", "note", *overrides, "on_contamination=warn", "rows=null")
    overlaps = json.loads((Path(folder) / "training.json").read_text())["contamination"]["overlaps"]
    assert [one["exact"] for one in overlaps] == [1]


def test_rows_whose_answers_are_all_cut_are_told(train, tmp_path):
    with pytest.raises(DataError, match=r"'nano_note'.*all 40 rows were truncated"):
        train(tmp_path, "note", "max_tokens=8")


def test_adapters_scored_one_after_another_score_as_each_alone(train, tmp_path):
    from slmbench.evaluation import EvaluationOptions
    from slmbench.task import load_task
    from slmbench.workflow.evaluate import EvaluationPlan, evaluate_plan

    def evaluated(out, *adapters):
        options = EvaluationOptions(out=str(tmp_path / out), format="plain", batch=8, limit=8, seed=0)
        plan = EvaluationPlan(model="nano", adapters=adapters, options=options)
        return evaluate_plan(plan, [load_task("nano_choice")], default_catalog())

    folders = [train(tmp_path, name) for name in ("note", "choice")]
    together, alone = evaluated("together", *folders), evaluated("alone", folders[1])
    scores = [[sample["loglikelihoods"] for sample in run.samples()] for run in (*together, *alone)]
    base, _, choice, base_again, choice_alone = scores
    assert base == base_again
    assert choice == choice_alone
    assert choice != base
