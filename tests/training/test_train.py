"""Adapters: what a training writes, what it keeps, and what it never leaves half done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attrs import evolve

from slmbench.catalog import default_catalog
from slmbench.errors import DataError, SlmbenchError, UsageError
from slmbench.models import attach_adapter, load_model, read_adapter, resolve_model
from slmbench.recipe import load_recipe
from slmbench.training import prepare_training, train_adapter

QUICK = ("adapters.note.steps=4", "adapters.choice.steps=4", "adapters.multi.steps=4", "optim.batch=4", "rows=40")


def _nano():
    return load_model(resolve_model("nano", default_catalog()))


def _train(out, name, *overrides, **options):
    catalog = default_catalog()
    recipe = load_recipe("nano-quickstart", catalog, (*QUICK, *overrides))
    source = resolve_model(recipe.spec.model, catalog)
    return train_adapter(recipe, name, catalog, source, out=str(out), **options)


def test_adapter_folder_holds_peft_files_and_an_honest_record(tmp_path):
    said = []
    folder = Path(_train(tmp_path, "multi", "log_every_steps=3", say=said.append))
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


WITHOUT_EFFECT = (
    "on_contamination=warn",
    "log_every_steps=1",
    "checkpoint={every_steps: 2, keep: 1}",
    "evaluation={tasks: [nano_choice]}",
    "variants={other: {seed: 3}}",
    "sweep={lora.rank: [4, 8]}",
    "summary=Another.",
)


def test_what_changes_no_weight_trains_nothing_anew(tmp_path):
    folder = Path(_train(tmp_path, "note"))
    first = (folder / "adapter_model.safetensors").stat().st_mtime_ns
    _train(tmp_path, "note", *WITHOUT_EFFECT)
    assert (folder / "adapter_model.safetensors").stat().st_mtime_ns == first
    _train(tmp_path, "note", *WITHOUT_EFFECT, resume=False)
    assert (folder / "adapter_model.safetensors").stat().st_mtime_ns != first


def _interrupt_at(step):
    made = 0

    def advance(n):
        nonlocal made
        made += n
        if made >= step:
            raise KeyboardInterrupt

    return lambda *_: advance


def test_interrupted_training_leaves_nothing_half_written_and_keeps_the_old_adapter(tmp_path):
    folder = Path(_train(tmp_path, "note"))
    before = read_adapter(str(folder)).sha256
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, "note", "optim.lr=1e-3", progress=_interrupt_at(1))
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == ["note"]
    assert read_adapter(str(folder)).sha256 == before


def test_an_interrupted_training_says_from_where_it_goes_on(tmp_path):
    said = []
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, "note", "checkpoint.every_steps=2", progress=_interrupt_at(4), say=said.append)
    assert "interrupted; the same command goes on from step 2" in said[-1]
    assert [path.match(".note-*.partial") for path in (tmp_path / "adapters").iterdir()] == [True]
    said.clear()
    folder = _train(tmp_path, "note", say=said.append)
    assert [line.split(" (")[0] for line in said if "going on" in line] == ["going on from step 2 of 4"]
    assert json.loads((Path(folder) / "training.json").read_text())["resumed_from"] == [2]
    assert read_adapter(folder).sha256 == read_adapter(_train(tmp_path / "whole", "note")).sha256


@pytest.mark.parametrize("how", ["another recipe", "anew"])
def test_a_checkpoint_that_is_not_wanted_is_not_gone_on_from(tmp_path, how):
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, "note", "checkpoint.every_steps=1", progress=_interrupt_at(3))
    said = []
    other = how == "another recipe"
    folder = _train(tmp_path, "note", *(["seed=5"] if other else []), resume=other, say=said.append)
    assert json.loads((Path(folder) / "training.json").read_text())["resumed_from"] == []
    told = (
        "a training of 'note' with other settings, rows or weights was left at step 2; its command goes on from there"
    )
    assert any(told in line for line in said) == other
    assert sorted(path.suffix for path in (tmp_path / "adapters").iterdir()) == ([""] + [".partial"] * other)
    if other:  # And it does go on.
        folder = _train(tmp_path, "note")
        assert json.loads((Path(folder) / "training.json").read_text())["resumed_from"] == [2]


def test_a_training_with_other_settings_sets_an_adapter_aside_and_going_back_puts_it_back(tmp_path):
    folder = Path(_train(tmp_path, "note"))
    first, made = read_adapter(str(folder)).sha256, (folder / "adapter_model.safetensors").stat().st_mtime_ns
    said = []
    assert _train(tmp_path, "note", "optim.lr=1e-3", say=said.append) == str(folder)
    second = read_adapter(str(folder)).sha256
    (aside,) = [path for path in folder.parent.iterdir() if path != folder]
    assert any(line.endswith(f"that one is kept as {aside}") for line in said)
    assert (read_adapter(str(aside)).sha256, first == second) == (first, False)
    said.clear()
    assert _train(tmp_path, "note", say=said.append) == str(folder)
    assert any(line.endswith("is what this training makes; it is put back") for line in said)
    assert (folder / "adapter_model.safetensors").stat().st_mtime_ns == made
    assert sorted(read_adapter(str(path)).sha256 for path in folder.parent.iterdir()) == sorted([first, second])


def test_a_place_that_can_not_be_written_is_told_before_rows_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("slmbench.training._train.prepare_training", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(SlmbenchError, match="file: it is a file, and the adapters would go below it"):
        _train(tmp_path / "file", "note")


def test_a_result_whose_record_says_nothing_is_set_aside_too(tmp_path):
    folder = Path(_train(tmp_path, "note"))
    before = read_adapter(str(folder))
    record = json.loads((folder / "training.json").read_text())
    (folder / "training.json").write_text(json.dumps(record | {"identity_sha256": None}))
    said = []
    _train(tmp_path, "note", say=said.append)
    (aside,) = [path for path in folder.parent.iterdir() if path.name.startswith("note-")]
    assert read_adapter(str(aside)).sha256 == before.sha256
    assert sum("was made with other settings; that one is kept as" in line for line in said) == 1


def test_a_result_that_was_damaged_is_made_anew_and_told(tmp_path):
    folder = Path(_train(tmp_path, "note"))
    before = read_adapter(str(folder)).sha256
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100] + bytes(100))
    said = []
    _train(tmp_path, "note", say=said.append)
    assert read_adapter(str(folder)).sha256 == before
    assert any(line.endswith("was not as its training left it; it is made anew") for line in said)
    assert [path.name for path in folder.parent.iterdir()] == ["note"]


def test_the_peak_of_a_training_is_that_of_all_its_attempts(tmp_path):
    import numpy as np

    from slmbench.runs import peak_memory_bytes

    large, reached = [], []

    def interrupt(*_):
        made = 0

        def advance(n):
            nonlocal made
            made += n
            if made == 2:
                large.append(np.ones(300_000_000, np.uint8))
                reached.append(peak_memory_bytes())
            if made == 4:  # After the checkpoint.
                large.clear()
                raise KeyboardInterrupt

        return advance

    steps = ("checkpoint.every_steps=3", "adapters.note.steps=6")
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, "note", *steps, progress=interrupt)
    memory = json.loads((Path(_train(tmp_path, "note", *steps)) / "training.json").read_text())["memory"]
    assert memory["peak_bytes"] == memory["peak_ram_bytes"] >= reached[0] > memory["first_step_bytes"] + 200_000_000


def test_a_training_that_only_warms_up_is_told(tmp_path):
    said = []
    _train(tmp_path, "note", "optim.warmup_steps=9", say=said.append)
    assert "note: all 4 steps are warm-up (optim.warmup_steps is 9)" in said


def test_lora_settings_that_a_full_training_does_not_read_are_told(tmp_path):
    said = []
    _train(tmp_path, "note", "method=full", "adapters.note.steps=1", "lora.rank=2", say=said.append)
    assert "note: method: full trains all weights, so `lora` has no effect" in said


BROKEN = ("optim.lr=1e30", "optim.clip_norm=1e30", "adapters.multi.steps=40", "optim.warmup_steps=2")


def test_loss_that_is_no_number_stops_at_that_step_and_keeps_the_checkpoint_before(tmp_path):
    seen = []

    def advance(n):
        seen.append(n)

    said = (
        r"step \d+: the (loss|gradient) became (nan|inf) (in rows of task 'nano_\w+'|on rows of nano_.*); the training "
    )
    with pytest.raises(SlmbenchError, match=said) as caught:
        _train(tmp_path, "multi", *BROKEN, "checkpoint.every_steps=1", progress=lambda *_: advance)
    step = int(str(caught.value).split()[1].rstrip(":"))
    assert caught.value.exit_code == 1
    assert sum(seen) == step - 1  # The step itself was not made.
    assert f"the checkpoint of step {step - 1} is kept in" in str(caught.value)
    assert "Lower optim.lr (1e+30)" in str(caught.value)
    checkpoints = sorted((tmp_path / "adapters").glob(".multi-*.partial/checkpoints/*"))
    assert checkpoints[-1].name == f"step-{step - 1:08d}"
    # It is an adapter like any other.
    attach_adapter(_nano(), str(checkpoints[-1]))


def test_the_task_whose_rows_have_the_bad_loss_is_named(tmp_path, monkeypatch):
    from slmbench.training import _trainer

    real = _trainer.row_losses

    def broken(model, batch, num_items=None):
        losses = real(model, batch, num_items)
        if model.training and (batch["task_id"] == 1).any():
            losses.sums[batch["task_id"] == 1] = float("nan")
        return losses

    monkeypatch.setattr(_trainer, "row_losses", broken)
    with pytest.raises(SlmbenchError, match=r"the loss became nan in rows of task 'nano_note'"):
        _train(tmp_path, "multi", "adapters.multi.steps=20", "optim.accumulate=2")


def test_a_validation_loss_that_is_no_number_is_told_as_what_it_is(tmp_path, monkeypatch):
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
        _train(tmp_path, "note", *overrides)


def test_adapter_of_other_weights_is_refused(tmp_path):
    folder = _train(tmp_path, "note")
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
    with pytest.raises(UsageError, match=r"max_tokens.*4096.*1024"):
        _train(tmp_path, "note", "max_tokens=4096")


def test_adapter_of_numbers_that_are_none_is_never_written(tmp_path):
    # Shorter than a log interval.
    with pytest.raises(SlmbenchError, match=r"became (nan|inf)|no numbers? any more"):
        _train(tmp_path, "note", "optim.lr=1e30", "optim.clip_norm=1e30", "adapters.note.steps=3")
    assert list((tmp_path / "adapters").iterdir()) == []


def test_rows_seen_are_those_that_were_trained_on(tmp_path, monkeypatch):
    import trl

    trained = 0
    step = trl.SFTTrainer.training_step

    def counting(self, model, inputs, *args, **kwargs):
        nonlocal trained
        trained += len(inputs["task_id"])
        return step(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(trl.SFTTrainer, "training_step", counting)
    overrides = ("adapters.multi.steps=null", "optim.epochs=1.5", "optim.accumulate=4", "rows=14")
    folder = Path(_train(tmp_path, "multi", *overrides))
    tasks = json.loads((folder / "training.json").read_text())["tasks"]
    assert sum(task["rows_seen"] for task in tasks.values()) == trained > 0


@pytest.mark.parametrize("there", ["a file", "somebody's adapter"])
def test_what_no_training_has_written_is_not_replaced(tmp_path, there):
    place = tmp_path / "adapters" / "note"
    precious = place if there == "a file" else place / "adapter_config.json"
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    with pytest.raises(UsageError, match="no training has written it"):
        _train(tmp_path, "note", resume=False)
    assert precious.read_text() == "precious"
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == ["note"]


@pytest.mark.parametrize(("method", "same"), [("lora", False), ("full", True)])
def test_a_model_that_declares_other_targets_is_trained_anew(method, same):
    catalog = default_catalog()
    recipe = load_recipe("nano-quickstart", catalog, (*QUICK, f"method={method}"))
    source = resolve_model("nano", catalog)
    sources = source, evolve(source, lora_targets=("q_proj",))
    one, other = (prepare_training(recipe, "note", catalog, each).identity for each in sources)
    assert (one == other) == same


def test_targets_that_the_model_lacks_are_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no_such_layer"):
        _train(tmp_path, "note", "lora.targets=[no_such_layer]")
    assert list(tmp_path.glob("adapters/*")) == []


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
    import shutil

    from slmbench.paths import package_dir

    copy = tmp_path / "nano-copy"
    shutil.copytree(Path(package_dir()) / "nano" / "model", copy)
    folder = Path(_train(tmp_path, "note", f"model={copy}"))
    first = (folder / "adapter_model.safetensors").stat().st_mtime_ns
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    _train(tmp_path, "note", f"model={copy}")
    assert (folder / "adapter_model.safetensors").stat().st_mtime_ns != first


def test_rows_kept_aside_are_in_no_step_and_their_loss_is_taken(tmp_path):
    overrides = ("validation={rows: 5, every_steps: 2}", "adapters.multi.steps=5", "seed=1")
    folder = Path(_train(tmp_path, "multi", *overrides))
    record = json.loads((folder / "training.json").read_text())
    assert [point["step"] for point in record["curves"]["validation"]] == [2, 4, 5]
    assert all(len(point["tasks"]) == 3 for point in record["curves"]["validation"])
    assert [task["validation_rows"] for task in record["tasks"].values()] == [5, 5, 5]
    # `rows` are those that are trained on, beside them.
    assert [task["rows"] for task in record["tasks"].values()] == [40, 40, 40]


def test_a_task_too_small_to_keep_a_row_aside_is_told_before_the_steps(tmp_path):
    said = []
    _train(tmp_path, "note", "rows=2", "validation={rows: 1}", "max_tokens=32", say=said.append)
    none = "note: nano_note: none of its 2 rows can be kept aside, so it has no validation loss"
    (cut,) = (line for line in said if "lost the front of their prompt" in line)
    assert cut.startswith("note: nano_note: of 2 rows 2 lost") and "max_tokens is 32" in cut
    first = next(i for i, line in enumerate(said) if line.startswith("step "))
    assert said.index(none) < first and said.index(cut) < first
    with pytest.raises(UsageError, match="'plateau' follows the validation loss, but of 2 rows none"):
        _train(tmp_path, "note", "rows=2", "validation={rows: 1}", "optim.schedule=plateau")


def test_validation_changes_no_weight(tmp_path):
    from safetensors.torch import load_file

    rows = ("rows=null", "validation={rows: 8, every_steps: 1}", "lora.dropout=0.1")
    often = load_file(Path(_train(tmp_path / "often", "note", *rows)) / "adapter_model.safetensors")
    rows = ("rows=null", "validation={rows: 8, every_steps: 99}", "lora.dropout=0.1")
    once = load_file(Path(_train(tmp_path / "once", "note", *rows)) / "adapter_model.safetensors")
    assert all((often[key] == once[key]).all() for key in {*often, *once})


def test_a_mirror_that_lacks_a_column_is_told_before_anything_is_made(tmp_path, write_task, monkeypatch):
    rows = '{"question": "1+1?", "reply": "2"}\n'
    write_task("sums", train=rows, test=rows)
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    with pytest.raises(DataError, match="answer") as caught:
        _train(tmp_path / "out", "note", "adapters.note.tasks=[sums]", "evaluation.tasks=[sums]")
    assert caught.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_a_task_whose_rows_are_all_evaluated_too_is_told(tmp_path, write_task, monkeypatch):
    rows = '{"question": "How many legs has a spider?", "answer": "8"}\n'
    write_task("sums", train=rows, test=rows)
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    overrides = ("adapters.note.tasks=[sums]", "evaluation.tasks=[sums]")
    with pytest.raises(DataError, match=r"'sums': all 1 training rows are in an evaluation split too"):
        _train(tmp_path / "out", "note", *overrides)
    folder = _train(tmp_path / "out", "note", *overrides, "on_contamination=warn", "rows=null")
    overlaps = json.loads((Path(folder) / "training.json").read_text())["contamination"]["overlaps"]
    assert [one["exact"] for one in overlaps] == [1]


def test_rows_whose_answers_are_all_cut_are_told(tmp_path):
    with pytest.raises(DataError, match=r"'nano_note'.*all 40 rows were truncated"):
        _train(tmp_path, "note", "max_tokens=8")


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
