"""Folders of runs that several processes, a full disk or a stranger have been in."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slmbench.cli import main
from slmbench.errors import SlmbenchError
from slmbench.leaderboard import read_runs
from slmbench.runs import OpenRun, read_record
from slmbench.seal import sealed
from tests.leaderboard.conftest import make_run


def test_a_second_writer_of_a_run_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    run = OpenRun(str(tmp_path / "one"), {"run_id": "one"})
    code = "import sys; from slmbench.runs import OpenRun; OpenRun(sys.argv[1], {'run_id': 'one'})"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "one")], capture_output=True, text=True)
    assert done.returncode != 0 and "another process is writing this run" in done.stderr
    assert json.loads((tmp_path / "one" / "run.json").read_text())["status"] == "started"
    run.close()
    OpenRun(str(tmp_path / "one"), {"run_id": "one"}).close()


def test_item_scores_cut_at_any_byte_are_told_and_never_read_past(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "cut", [1, 0, 1])
    path = folder / "item_scores.parquet"
    whole, record = path.read_bytes(), json.loads((folder / "run.json").read_text())
    for length in [*range(0, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[:length])
        loaded = read_runs(tmp_path)
        assert not loaded.runs and "item_scores.parquet: sha256 is" in str(loaded.problems[0])
        # Digested anew, it is told by what it holds.
        anew = record | {"item_scores_sha256": hashlib.sha256(whole[:length]).hexdigest()}
        (folder / "run.json").write_text(json.dumps(sealed(anew)))
        loaded = read_runs(tmp_path)
        assert not loaded.runs and "is not the item scores of a run" in str(loaded.problems[0])
        (folder / "run.json").write_text(json.dumps(record))


@pytest.mark.parametrize("kind", ["folder", "pipe", "gone", "loop"])
@pytest.mark.parametrize("name", ["run.json", "samples.jsonl", "item_scores.parquet", "responses.jsonl"])
def test_what_is_no_file_ends_in_no_traceback_and_holds_nobody_up(
    name: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, "good", [1, 0])
    path = make_run(tmp_path, "odd", [1, 1], model="odd") / name
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    for command in (
        ["leaderboard", str(tmp_path), "--out", str(tmp_path / "board")],
        ["runs", "verify", str(tmp_path)],
        ["runs", "list", str(tmp_path)],
        ["runs", "gc", str(tmp_path), "--superseded", "--unfinished"],
        ["runs", "export", str(tmp_path), "--parquet", "--out", str(tmp_path / "tables")],
    ):
        assert main(command) in (0, 1)
        told = capsys.readouterr()
        assert "Traceback" not in told.err
    assert "good" in [run.run_id for run in read_runs(tmp_path).runs]


def test_runs_without_an_item_are_told_and_the_others_ranked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, "good", [1, 0])
    folder = make_run(tmp_path, "none", [1, 0], model="none")
    (folder / "samples.jsonl").write_bytes(b"")
    record = read_record(folder) | {"samples_sha256": hashlib.sha256(b"").hexdigest()}
    del record["item_scores_sha256"]
    (folder / "run.json").write_text(json.dumps(sealed(record)))
    assert main(["leaderboard", str(tmp_path), "--out", str(tmp_path / "board"), "--json"]) == 1
    told = capsys.readouterr()
    assert [row["model"] for row in json.loads(told.out)["rows"]] == ["nano"] and "has 0 scores" in told.err
    assert main(["runs", "verify", str(tmp_path)]) == 1
    assert "has 0 scores" in capsys.readouterr().out


def test_a_folder_that_can_not_be_written_is_told_and_its_runs_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path, "one", [1, 0])
    monkeypatch.setenv("SLMBENCH_CACHE", "/proc/nowhere")  # Root may write anywhere else.
    assert [run.run_id for run in read_runs(tmp_path).runs] == ["one"]
    assert main(["runs", "export", str(tmp_path), "--parquet", "--out", "/proc/nowhere"]) == 1
    assert "/proc/nowhere" in capsys.readouterr().err
    with pytest.raises(SlmbenchError, match="can't be written"):
        OpenRun("/proc/nowhere/run", {"run_id": "one"})
