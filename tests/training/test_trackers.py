"""A tracker is told what the curves have, changes nothing of a training, and can't end one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from slmbench.cli import main
from slmbench.cli._options import TRACKERS as OFFERED
from slmbench.training import TRACKERS, _trackers, require_trackers
from slmbench.training._trackers import _Begun

EVERY = "log_every_steps=1"


def record(folder):
    return json.loads(Path(folder, "training.json").read_text())


def test_tensorboard_has_the_losses_of_the_curves_and_the_adapter_is_the_same(train, note, tmp_path, said):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = train(tmp_path / "tracked", "note", EVERY, track=["tensorboard"])
    told = record(folder)
    assert told["sha256"] == record(note)["sha256"] and told["identity_sha256"] == record(note)["identity_sha256"]
    [tracker] = told["trackers"]
    assert (tracker["name"], tracker["failed"]) == ("tensorboard", None)
    events = reader.EventAccumulator(str(tmp_path / "tracked" / tracker["where"]))
    events.Reload()
    for tag, of_point in (
        ("train/loss", lambda point: point["loss"]),
        ("train/nano_note_loss", lambda point: point["tasks"]["nano_note"]["loss"]),
        ("train/learning_rate", lambda point: point["lr"]),
    ):
        wanted = [(point["step"], pytest.approx(of_point(point), rel=1e-6)) for point in told["curves"]["train"]]
        assert [(event.step, event.value) for event in events.Scalars(tag)] == wanted and len(wanted) == 4
    assert any("told to tensorboard; `tensorboard --logdir" in line for line in said)

    # Who tracks, and whether, is no part of what a training is: it is there already.
    assert train(tmp_path / "tracked", "note") == folder and record(folder) == told


def test_trackio_keeps_its_own_store_on_this_machine(train, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "store"))  # Read when it is imported, here for the first time.
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    told = record(train(tmp_path, "note", EVERY, track=["trackio"]))
    [tracker] = told["trackers"]
    assert tracker == {"name": "trackio", "where": "project nano-quickstart", "failed": None}
    run = f"note-{told['identity_sha256'][:8]}"
    losses = [entry["train/loss"] for entry in SQLiteStorage.get_logs("nano-quickstart", run) if "train/loss" in entry]
    assert losses == [pytest.approx(point["loss"], rel=1e-6) for point in told["curves"]["train"]]
    assert list((tmp_path / "store").glob("*.db")) and capsys.readouterr().out == ""


class Breaking:
    """A stand-in for a tracker that works or breaks at one event: real ones break with their servers and versions."""

    def __init__(self, at):
        self.at, self.calls = at, []

    def __getattr__(self, event):
        if not event.startswith("on_"):
            raise AttributeError(event)

        def call(args, state, control, **named):
            self.calls.append((event, state.global_step, sorted(named.get("logs") or ())))
            if event == self.at:
                print("what a library prints is no data")
                raise SystemExit("no server\nat 127.0.0.1")

        return call


def test_trackers_that_break_end_no_training_are_told_once_and_noted(train, note, tmp_path, monkeypatch, said, capsys):
    def never(training):
        raise ConnectionError("no server\nat 127.0.0.1")

    breaking, fine, ended = Breaking("on_log"), Breaking(None), []
    for name, callback in (("wandb", breaking), ("trackio", fine)):
        begun = _Begun(callback, lambda name=name: ended.append(name), name, f"look at {name}")
        monkeypatch.setitem(_trackers._BEGIN, name, lambda _, begun=begun: begun)
    monkeypatch.setitem(_trackers._BEGIN, "mlflow", never)
    monkeypatch.setattr(_trackers, "_is_here", lambda _: True)
    told = record(train(tmp_path / "tracked", "note", EVERY, track=["mlflow", "wandb", "trackio"]))

    assert told["sha256"] == record(note)["sha256"] and capsys.readouterr().out == ""
    assert told["trackers"] == [
        {"name": "mlflow", "where": None, "failed": "ConnectionError: no server at 127.0.0.1"},
        {"name": "wandb", "where": "wandb", "failed": "SystemExit: no server at 127.0.0.1"},
        {"name": "trackio", "where": "trackio", "failed": None},
    ]
    assert [line for line in said if "failed" in line] == [
        f"note: tracker {one['name']} failed, and the training goes on without it: {one['failed']}"
        for one in told["trackers"][:2]
    ]
    # One that broke is asked no more, and still ended: it may hold a process.
    assert [event for event, *_ in breaking.calls] == ["on_train_begin", "on_log"] and ended == ["wandb", "trackio"]
    logged = [step for event, step, logs in fine.calls if "loss" in logs and "nano_note_loss" in logs]
    assert logged == [1, 2, 3, 4] and {event for event, *_ in fine.calls} == set(_trackers._EVENTS)


def test_a_tracker_is_ended_when_the_training_stops_at_a_loss_that_is_no_number(train, tmp_path, monkeypatch):
    ended = []
    monkeypatch.setitem(
        _trackers._BEGIN, "mlflow", lambda training: _Begun(Breaking(None), lambda: ended.append(1), "x", "x")
    )
    monkeypatch.setattr(_trackers, "_is_here", lambda _: True)
    with pytest.raises(Exception, match=r"the (loss|gradient) became"):
        train(tmp_path, "note", "optim.lr=1e30", "optim.clip_norm=1e30", "optim.warmup_steps=0", track=["mlflow"])
    assert ended == [1]


@pytest.mark.parametrize("command", ["train", "run", "sweep"])
def test_a_tracker_that_is_not_installed_is_told_with_the_line_that_installs_it_before_anything(
    command, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(_trackers, "_is_here", lambda _: False)
    arguments = [command, "nano-quickstart", "--track", "wandb", "--track", "mlflow", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert "--track wandb: the package wandb is not installed; `pip install wandb`" in told
    assert "--track mlflow: the package mlflow is not installed; `pip install mlflow`" in told
    assert not (tmp_path / "out").exists()
    with pytest.raises(Exception, match="unknown tracker 'comet'; there are tensorboard, trackio, wandb, mlflow"):
        require_trackers(["comet"])


def test_what_is_offered_is_what_there_is_and_nothing_of_it_is_imported_for_help():
    assert OFFERED == TRACKERS
    code = "import sys; from slmbench.cli import main; main(['train', '--help']); print(*sys.modules)"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", *TRACKERS} & set(there)
