"""Where a training's result and checkpoints lie: what is kept, what is put aside, what is never left half done."""

from __future__ import annotations

import glob
import json
import os
import signal
from pathlib import Path

import pytest

from slmbench.console import watching
from slmbench.errors import SlmbenchError, UsageError
from slmbench.models import read_adapter
from slmbench.training import checkpoint_pattern


def test_finished_adapter_is_kept_and_a_changed_recipe_trains_anew(train, note, tmp_path):
    folder = note
    first = (folder / "adapter_model.safetensors").stat().st_mtime_ns
    train(tmp_path, "note")
    assert (folder / "adapter_model.safetensors").stat().st_mtime_ns == first
    train(tmp_path, "note", "optim.lr=1e-3")
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


def test_what_changes_no_weight_trains_nothing_anew(train, note, tmp_path):
    folder = note
    first = (folder / "adapter_model.safetensors").stat().st_mtime_ns
    train(tmp_path, "note", *WITHOUT_EFFECT)
    assert (folder / "adapter_model.safetensors").stat().st_mtime_ns == first
    train(tmp_path, "note", *WITHOUT_EFFECT, resume=False)
    assert (folder / "adapter_model.safetensors").stat().st_mtime_ns != first


def _interrupt_at(step):
    made = 0

    def advance(what, n):
        nonlocal made
        made += n
        if made >= step:
            raise KeyboardInterrupt

    return watching(advance)


def test_interrupted_training_leaves_nothing_half_written_and_keeps_the_old_adapter(train, note, tmp_path):
    folder = note
    before = read_adapter(str(folder)).sha256
    with pytest.raises(KeyboardInterrupt), _interrupt_at(1):
        train(tmp_path, "note", "optim.lr=1e-3")
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == ["note"]
    assert read_adapter(str(folder)).sha256 == before


def test_an_interrupted_training_says_from_where_it_goes_on(train, tmp_path, said):
    with pytest.raises(KeyboardInterrupt), _interrupt_at(4):
        train(tmp_path, "note", "checkpoint.every_steps=2")
    assert "interrupted; the same command goes on from step 2" in said[-1]
    assert [path.match(".note-*.partial") for path in (tmp_path / "adapters").iterdir()] == [True]
    kept = {name: glob.glob(checkpoint_pattern(str(tmp_path), name)) for name in ("note", "not")}
    assert [Path(path).name for path in kept["note"]] == ["step-00000002"] and kept["not"] == []
    said.clear()
    folder = train(tmp_path, "note")
    assert [line.split(" (")[0] for line in said if "going on" in line] == ["going on from step 2 of 4"]
    assert json.loads((Path(folder) / "training.json").read_text())["resumed_from"] == [2]
    assert read_adapter(folder).sha256 == read_adapter(train(tmp_path / "whole", "note")).sha256
    assert glob.glob(checkpoint_pattern(str(tmp_path), "note")) == []


def _signal_at(step, signals):
    """Sends this process signals after a step, as Ctrl-C and `kill` do."""
    made = 0

    def advance(what, n):
        nonlocal made
        made += n
        if made == step:
            for number in signals:
                os.kill(os.getpid(), number)
            signal.getsignal(signal.SIGINT)  # A point at which the interpreter hands signals over.

    return watching(advance)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_training_after_its_step_with_a_checkpoint_of_it(train, tmp_path, number, capsys):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), _signal_at(3, [number]):
        train(tmp_path, "note", "checkpoint.every_steps=100")
    assert signal.getsignal(number) is before
    (checkpoint,) = tmp_path.glob("adapters/.note-*.partial/checkpoints/*")
    assert checkpoint.name == "step-00000003"
    assert "note: interrupted; the same command goes on from step 3 of 4" in capsys.readouterr().err


def test_a_second_signal_ends_at_once_and_what_is_said_is_what_is_kept(train, tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt), _signal_at(3, [signal.SIGINT, signal.SIGTERM]):
        train(tmp_path, "note", "checkpoint.every_steps=100")
    assert not (tmp_path / "adapters").exists()
    assert "nothing of this training is kept" in capsys.readouterr().err


def test_a_signal_in_the_last_step_leaves_the_whole_adapter(train, tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt), _signal_at(4, [signal.SIGINT]):
        train(tmp_path, "note")
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == ["note"]
    assert "is whole" in capsys.readouterr().err


def test_checkpoints_are_made_by_time_as_well(train, tmp_path):
    often = ("checkpoint.every_steps=100", "checkpoint.every_minutes=1e-9", "checkpoint.keep=100")
    with pytest.raises(KeyboardInterrupt), _interrupt_at(4):
        train(tmp_path, "note", *often)
    (place,) = tmp_path.glob("adapters/.note-*.partial/checkpoints")
    assert sorted(path.name for path in place.iterdir()) == [f"step-0000000{n}" for n in (1, 2, 3)]


@pytest.mark.parametrize("how", ["another recipe", "anew"])
def test_a_checkpoint_that_is_not_wanted_is_not_gone_on_from(train, tmp_path, how, said):
    with pytest.raises(KeyboardInterrupt), _interrupt_at(3):
        train(tmp_path, "note", "checkpoint.every_steps=1")
    said.clear()
    other = how == "another recipe"
    folder = train(tmp_path, "note", *(["seed=5"] if other else []), resume=other)
    assert json.loads((Path(folder) / "training.json").read_text())["resumed_from"] == []
    told = (
        "a training of 'note' with other settings, rows or weights was left at step 2; its command goes on from there"
    )
    assert any(told in line for line in said) == other
    assert sorted(path.suffix for path in (tmp_path / "adapters").iterdir()) == ([""] + [".partial"] * other)
    if other:  # And it does go on.
        folder = train(tmp_path, "note")
        assert json.loads((Path(folder) / "training.json").read_text())["resumed_from"] == [2]


def test_a_training_with_other_settings_sets_an_adapter_aside_and_going_back_puts_it_back(train, note, tmp_path, said):
    folder = note
    first, made = read_adapter(str(folder)).sha256, (folder / "adapter_model.safetensors").stat().st_mtime_ns
    said.clear()
    assert train(tmp_path, "note", "optim.lr=1e-3") == str(folder)
    second = read_adapter(str(folder)).sha256
    (aside,) = [path for path in folder.parent.iterdir() if path != folder]
    assert any(line.endswith(f"and is kept as {aside}") for line in said)
    assert (read_adapter(str(aside)).sha256, first == second) == (first, False)
    said.clear()
    assert train(tmp_path, "note") == str(folder)
    assert any(line.endswith("is what this training makes; it is put back") for line in said)
    assert (folder / "adapter_model.safetensors").stat().st_mtime_ns == made
    assert sorted(read_adapter(str(path)).sha256 for path in folder.parent.iterdir()) == sorted([first, second])


def test_a_place_that_can_not_be_written_is_told_before_rows_are_read(train, tmp_path, monkeypatch):
    monkeypatch.setattr("slmbench.training._train.prepare_training", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(SlmbenchError, match="file: it is a file, and the adapters would go below it"):
        train(tmp_path / "file", "note")


def test_a_result_whose_record_says_nothing_is_set_aside_too(train, note, tmp_path, said):
    folder = note
    before = read_adapter(str(folder))
    record = json.loads((folder / "training.json").read_text())
    (folder / "training.json").write_text(json.dumps(record | {"identity_sha256": None, "record_sha256": None}))
    said.clear()
    train(tmp_path, "note")
    (aside,) = [path for path in folder.parent.iterdir() if path.name.startswith("note-")]
    assert read_adapter(str(aside)).sha256 == before.sha256
    assert sum("was made with other settings, and is kept as" in line for line in said) == 1


def test_a_result_that_was_damaged_is_made_anew_and_told(train, note, tmp_path, said):
    folder = note
    before = read_adapter(str(folder)).sha256
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100] + bytes(100))
    said.clear()
    train(tmp_path, "note")
    assert read_adapter(str(folder)).sha256 == before
    assert any(line.endswith("was not as its training left it; it is made again") for line in said)
    assert [path.name for path in folder.parent.iterdir()] == ["note"]


def test_the_peak_of_a_training_is_that_of_all_its_attempts(train, tmp_path):
    import numpy as np

    from slmbench.machine import peak_memory_bytes

    large, reached, made = [], [], 0

    def interrupt(what, n):
        nonlocal made
        made += n
        if made == 2:
            large.append(np.ones(300_000_000, np.uint8))
            reached.append(peak_memory_bytes())
        if made == 4:  # After the checkpoint.
            large.clear()
            raise KeyboardInterrupt

    steps = ("checkpoint.every_steps=3", "adapters.note.steps=6")
    with pytest.raises(KeyboardInterrupt), watching(interrupt):
        train(tmp_path, "note", *steps)
    memory = json.loads((Path(train(tmp_path, "note", *steps)) / "training.json").read_text())["memory"]
    assert memory["peak_bytes"] == memory["peak_ram_bytes"] >= reached[0] > memory["first_step_bytes"] + 200_000_000


@pytest.mark.parametrize("there", ["a file", "somebody's adapter"])
def test_what_no_training_has_written_is_not_replaced(train, tmp_path, there):
    place = tmp_path / "adapters" / "note"
    precious = place if there == "a file" else place / "adapter_config.json"
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    with pytest.raises(UsageError, match="no training wrote it"):
        train(tmp_path, "note", resume=False)
    assert precious.read_text() == "precious"
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == ["note"]


def test_an_adapter_killed_in_its_swap_is_restored(train, note, tmp_path):
    folder = note
    digest = read_adapter(str(folder)).sha256
    folder.rename(folder.with_name(".note.old"))
    train(tmp_path, "note")
    assert read_adapter(str(folder)).sha256 == digest
    assert [path.name for path in folder.parent.iterdir()] == ["note"]


def test_two_trainings_of_one_adapter_do_not_mix(train, tmp_path):
    from slmbench.files import only_writer

    with only_writer(str(tmp_path / "adapters" / ".note.lock")), pytest.raises(SlmbenchError, match="another process"):
        train(tmp_path, "note")
