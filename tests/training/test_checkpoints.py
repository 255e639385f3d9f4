"""Checkpoints are whole or not there; a torn or foreign one is passed over, with a line that says so."""

from __future__ import annotations

import json
import os
import random

import numpy
import pytest
import torch

from slmbench.errors import FileError, SlmbenchError
from slmbench.training._checkpoints import (
    MANIFEST,
    latest,
    load_state,
    newest_step,
    random_states,
    restoring,
    set_random_states,
    to_bytes,
    writing,
)

FILES = {"weights": b"w" * 1000, "optimizer.pt": b"o" * 2000}


def _write(place, step, identity="mine", *, keep=9, files=FILES):
    with writing(str(place), step, identity, keep=keep) as write:
        for name, data in files.items():
            write(name, data)


def _tear(folder, how):
    file = folder / "optimizer.pt"
    if how == "no manifest":
        (folder / MANIFEST).unlink()
    elif how == "half a manifest":
        (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes()[:40])
    elif how == "manifest of something else":
        (folder / MANIFEST).write_text('{"steps": 3}')
    elif how == "manifest without an end":
        (folder / MANIFEST).write_text("[" * 100_000)
    elif how == "manifest of texts":
        manifest = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(
            json.dumps(manifest | {"files": {"optimizer.pt": {"bytes": "2000", "sha256": ""}}})
        )
    elif how == "manifest of other fields":
        manifest = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps(manifest | {"files": {"optimizer.pt": 2000}}))
    elif how == "shorter":
        file.write_bytes(file.read_bytes()[:-1])
    elif how == "one bit":
        file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    else:
        file.unlink()


def test_the_newest_whole_checkpoint_is_taken(tmp_path, said):
    for step in (9, 100, 20):
        _write(tmp_path, step)
    found = latest(str(tmp_path), "mine")
    assert found.step == 100 and said == []
    assert (tmp_path / "step-00000100" / "weights").read_bytes() == FILES["weights"]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("no manifest", "no readable checkpoint.json"),
        ("half a manifest", "no readable checkpoint.json"),
        ("manifest of something else", "no readable checkpoint.json"),
        ("manifest of other fields", "field files.optimizer.pt is 2000, has to be an object"),
        ("manifest of texts", 'field files.optimizer.pt.bytes is "2000", has to be a whole number'),
        ("manifest without an end", "is nested more than 40 levels deep"),
        ("shorter", "optimizer.pt has 1,999 bytes instead of 2,000"),
        ("one bit", "optimizer.pt has a different sha256"),
        ("no file", "optimizer.pt: No such file"),
    ],
)
def test_a_torn_checkpoint_is_passed_over_with_a_message(tmp_path, how, why, said):
    _write(tmp_path, 10)
    _write(tmp_path, 20)
    _tear(tmp_path / "step-00000020", how)
    said.clear()
    assert latest(str(tmp_path), "mine").step == 10
    (line,) = said
    assert "step-00000020 is torn" in line and why in line and line.endswith("it is removed")
    assert os.listdir(tmp_path) == ["step-00000010"]


def test_a_checkpoint_of_another_training_is_removed_with_a_message(tmp_path, said):
    _write(tmp_path, 10, "another")
    said.clear()
    assert latest(str(tmp_path), "mine") is None
    assert ["other settings, rows or weights" in line for line in said] == [True]
    assert os.listdir(tmp_path) == []


def test_a_checkpoint_of_other_versions_is_gone_on_from_with_a_message(tmp_path, said):
    _write(tmp_path, 10)
    path = tmp_path / "step-00000010" / "checkpoint.json"
    manifest = json.loads(path.read_text())
    manifest["packages"]["torch"] = "1.0"
    path.write_text(json.dumps(manifest))
    said.clear()
    assert latest(str(tmp_path), "mine").step == 10
    (line,) = said
    assert "is from other versions (torch 1.0 then, 2" in line


def test_only_the_newest_are_kept_and_by_their_step(tmp_path):
    for step in (90, 100, 110):
        _write(tmp_path, step, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["step-00000100", "step-00000110"]
    assert newest_step(str(tmp_path)) == 110


def test_no_name_stands_before_all_is_written(tmp_path):
    _write(tmp_path, 10)
    with pytest.raises(KeyboardInterrupt), writing(str(tmp_path), 20, "mine", keep=1) as write:
        write("weights", b"x")
        assert not (tmp_path / "step-00000020").exists()
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["step-00000010"]


def test_what_a_kill_left_half_written_is_cleared_away(tmp_path):
    _write(tmp_path, 10)
    (tmp_path / ".step-00000020.tmp").mkdir()
    (tmp_path / ".step-00000020.tmp" / "weights").write_bytes(b"half")
    assert latest(str(tmp_path), "mine").step == 10
    assert os.listdir(tmp_path) == ["step-00000010"]


def test_a_file_that_cannot_be_written_is_an_error_that_keeps_the_one_before(tmp_path):
    _write(tmp_path, 10)
    said = pytest.raises(SlmbenchError, match=r"step-00000020: can't be written: Is a directory")
    with said, writing(str(tmp_path), 20, "mine", keep=1) as write:
        os.mkdir(tmp_path / ".step-00000020.tmp" / "weights")
        write("weights", b"x")
    assert os.listdir(tmp_path) == ["step-00000010"]


def test_no_place_has_no_checkpoint(tmp_path):
    assert latest(str(tmp_path / "nowhere"), "mine") is None
    assert newest_step(str(tmp_path / "nowhere")) is None


def test_manifest_says_what_was_written(tmp_path):
    _write(tmp_path, 10)
    manifest = json.loads((tmp_path / "step-00000010" / MANIFEST).read_text())
    assert manifest["step"] == 10 and manifest["identity_sha256"] == "mine"
    assert {name: entry["bytes"] for name, entry in manifest["files"].items()} == {
        "weights": 1000,
        "optimizer.pt": 2000,
    }


def test_random_states_come_back_as_they_were(tmp_path):
    def draw():
        return random.gauss(0, 1), numpy.random.standard_normal(), torch.randn(2).tolist(), random.random()

    before = random_states()
    try:
        random.seed(5), numpy.random.seed(5), torch.manual_seed(5)
        draw()  # Both keep the second of two normal numbers for later.
        path = tmp_path / "random.pt"
        path.write_bytes(to_bytes(random_states()))
        expected = [draw() for _ in range(3)]
        set_random_states(load_state(str(path)))
        assert [draw() for _ in range(3)] == expected
    finally:
        set_random_states(before)


@pytest.mark.parametrize(
    "data", [b"", b"x", b"PK\x03\x04", b"\x80\x02", to_bytes({"a": torch.ones(3)})[:-30], b"[" * 9999]
)
def test_a_state_that_cannot_be_read_is_an_error_that_names_the_file(tmp_path, data):
    path = tmp_path / "optimizer.pt"
    path.write_bytes(data)
    with pytest.raises(
        FileError, match=r"optimizer\.pt: can't be resumed from: .*; delete .* and run the same command"
    ):
        load_state(str(path))


def test_a_state_of_another_kind_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "random.pt"
    for state in ([], {}, {"python": 3}, random_states() | {"numpy": None}, random_states() | {"torch": torch.ones(2)}):
        path.write_bytes(to_bytes(state))
        with pytest.raises(FileError, match=r"random\.pt"), restoring(str(path)):
            set_random_states(load_state(str(path)))


def test_nothing_in_a_state_is_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "canary"),))

    path = tmp_path / "random.pt"
    torch.save({"torch": Evil()}, path)
    with pytest.raises(FileError, match=r"random\.pt: can't be resumed from"):
        load_state(str(path))
    assert not (tmp_path / "canary").exists()
