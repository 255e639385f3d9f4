"""Ctrl-C and the polite kill while pages, exports, mirrors and forecasts are made: nothing is left half-written."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slmbench.files import write_together
from tests.leaderboard.conftest import make_run, read_page

DRIVER = str(Path(__file__).parent / "interrupted.py")
RECIPE = """\
summary: Two steps.
model: nano
adapters: {note: {tasks: [nano_note]}}
rows: 8
optim: {steps: 2, batch: 2}
on_contamination: warn
evaluation: {tasks: [nano_note], limit: 2}
"""


class Commands:
    """Commands of one process, each of which may get a signal."""

    def __init__(self, **env: str) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        self._child = subprocess.Popen([sys.executable, DRIVER], text=True, env=os.environ | env, **pipes)

    def __call__(
        self, *arguments: object, event: str | None = None, part: str = "\0", number: str = "SIGINT"
    ) -> tuple[int, str]:
        """(exit code, what was said). The signal is sent at an event of Python whose path has `part` in it; without an
        event at the first line that has."""
        assert self._child.stdin is not None and self._child.stderr is not None
        wanted = {"arguments": [*map(str, arguments)], "event": event, "part": part, "signal": number}
        self._child.stdin.write(json.dumps(wanted) + "\n")
        self._child.stdin.flush()
        said = ""
        for line in self._child.stderr:
            if line.startswith("case: "):
                assert "Traceback" not in said
                return int(line.removeprefix("case: ")), said
            if event is None and part in line:
                self._child.send_signal(getattr(signal, number))
            said += line
        pytest.fail(f"the process ended: {said}")

    def end(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        assert self._child.wait(timeout=60) == 0


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """The process; its mirror of data is tmp_path/mirror."""
    made = Commands(SLMBENCH_DATA=str(tmp_path / "mirror"))
    yield made
    made.end()


def state(folder: Path) -> dict[str, str]:
    """relative path -> digest of every file there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_pages_are_the_old_ones_or_the_new_ones(commands: Commands, tmp_path: Path) -> None:
    out, words = tmp_path / "leaderboard", ("leaderboard", tmp_path)
    make_run(tmp_path, "run-a", [1.0, 0.0, 1.0])
    code, said = commands(*words, event="open", part=".md.")
    assert code == 130 and "leaderboard: its leaderboard was being written; its files are unchanged" in said
    assert state(out) == {}
    assert commands(*words)[0] == 0
    before = state(out)
    assert {name for name in before if not name.startswith("data/")} == {
        *("index.html", "leaderboard.csv", "leaderboard.json", "leaderboard.md", "notices.csv")
    }
    make_run(tmp_path, "run-b", [1.0, 1.0, 1.0], adapter="other")
    code, said = commands(*words, event="open", part=".md.", number="SIGTERM")
    assert code == 130 and "its files are unchanged" in said and said.endswith("interrupted\n")
    assert state(out) == before
    code, said = commands(*words, event="os.rename", part=".csv.")
    assert code == 130 and "its leaderboard was being written; it is whole" in said
    after = state(out)
    # Of neither leaderboard there is a notice.
    named = {name for name in before if not name.startswith("data/") and name != "notices.csv"}
    assert named <= after.keys() and not [name for name in named if after[name] == before[name]]
    index, files = read_page(out)
    assert {row["chunk"] for row in index["rows"]} == {name for name in files if name.startswith("row-")}


def test_forecast_and_export_leave_what_was_there(commands: Commands, tmp_path: Path) -> None:
    recipe, out = tmp_path / "short.yaml", tmp_path / "out"
    recipe.write_text(RECIPE, encoding="utf-8")
    train, export = (
        ("train", recipe, "--out", out),
        ("export", out / "adapters" / "note", "--to", "merged", "--out", out),
    )
    record = ".export.json."
    code, said = commands(*train, part="contamination: ")
    assert code == 130 and "note: interrupted before its training began" in said and said.endswith("interrupted\n")
    assert state(out) == {}
    assert commands(*train)[0] == 0
    trained = state(out)
    code, said = commands(*export, event="open", part=record)
    assert code == 130 and "note: interrupted; nothing of it is kept" in said and said.endswith("interrupted\n")
    assert state(out) == trained
    assert commands(*export)[0] == 0
    before = state(out)
    assert "models/note-merged/export.json" in before and not [name for name in before if "partial" in name]
    export = (*export, "--dtype", "bfloat16")
    code, said = commands(*export, event="open", part=record, number="SIGTERM")
    assert code == 130 and "models/note-merged is as it was" in said
    assert state(out) == before
    code, said = commands(*export, event="os.rename", part="models/note-merged")
    assert code == 130 and "models/note-merged is whole" in said
    assert state(out).keys() == before.keys()
    assert json.loads((out / "models" / "note-merged" / "export.json").read_text())["dtype"] == "bfloat16"


def test_rows_that_are_read_are_exported_whole_or_not_at_all(commands: Commands, tmp_path: Path) -> None:
    mirror, out = tmp_path / "mirror", tmp_path / "out"
    (mirror / "boolq").mkdir(parents=True)
    rows = '{"question": "is it", "answer": true, "passage": "It is."}\n' * 3
    (mirror / "boolq" / "train.jsonl").write_text(rows, encoding="utf-8")
    export = ("data", "export", "boolq", "--format", "jsonl", "--out", out / "boolq.jsonl")
    for words, part, number in (
        (("data", "verify", mirror), "boolq/train", "SIGINT"),
        (export, "boolq/train", "SIGTERM"),
        (export, ".boolq.jsonl.", "SIGINT"),
        (export, ".boolq.jsonl.", "SIGTERM"),
    ):
        code, said = commands(*words, event="open", part=part, number=number)
        assert code == 130 and said.endswith("interrupted\n")
        assert state(out) == {}
    assert commands(*export)[0] == 0
    assert list(state(out)) == ["boolq.jsonl"]


def test_a_download_that_hangs_is_let_go(tmp_path: Path) -> None:
    asked = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections = []

        def hang() -> None:
            connections.append(server.accept())  # Kept open, and never answered.
            asked.set()

        threading.Thread(target=hang, daemon=True).start()
        place = f"http://127.0.0.1:{server.getsockname()[1]}"
        folders = {"HF_HOME": str(tmp_path / "hub"), "HF_DATASETS_CACHE": str(tmp_path / "hub")}
        kept = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
        child = subprocess.Popen(
            [sys.executable, "-m", "slmbench", "data", "pull", "boolq", "--to", str(tmp_path / "mirror")],
            env=kept | folders | {"HF_ENDPOINT": place},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert asked.wait(60), child.communicate(timeout=60)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 130 and "Traceback" not in said
    assert "boolq: interrupted; none of its files was replaced" in said and said.endswith("interrupted\n")
    assert not (tmp_path / "mirror").exists()


@pytest.mark.parametrize("at", [0, 1, 2])
def test_files_that_belong_together_are_all_new_or_all_old(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [str(tmp_path / name) for name in ("a", "b", "c")]
    write_together(dict.fromkeys(names, b"old"))
    renamed: list[str] = []
    rename, sync = os.replace, os.fsync

    def rename_and_signal(old: str, new: str) -> None:
        rename(old, new)
        renamed.append(new)
        if len(renamed) == at + 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(os, "replace", rename_and_signal)
    with pytest.raises(KeyboardInterrupt):
        write_together(dict.fromkeys(names, b"new"))
    assert {Path(name).read_bytes() for name in names} == {b"new"} and renamed == names
    synced: list[int] = []

    def sync_and_signal(file: int) -> None:
        sync(file)
        synced.append(file)
        if len(synced) == at + 1:
            os.kill(os.getpid(), signal.SIGTERM if signal.getsignal(signal.SIGTERM) else signal.SIGINT)

    monkeypatch.setattr(os, "fsync", sync_and_signal)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            write_together(dict.fromkeys(names, b"newer"))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert {Path(name).read_bytes() for name in names} == {b"new"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
