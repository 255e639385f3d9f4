"""What `slmbench runs gc` tells and removes."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest

from slmbench.cli import main
from tests.leaderboard.conftest import make_run

OLD = 1_700_000_000


def leave(path: Path, text: str = "") -> Path:
    """A file, long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    for one in (path, path.parent):
        os.utime(one, (OLD, OLD))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Runs of which an older one is hidden by a newer, a copy, one under way, and what killed processes left."""
    make_run(tmp_path, "old", [1, 0], created="2026-11-19T10:00:00Z")
    new = make_run(tmp_path, "new", [1, 1])
    make_run(tmp_path, "other", [1, 1], adapter="note")
    make_run(tmp_path, "marked", [1, 1], status="invalidated")
    shutil.copytree(new, tmp_path / "runs" / "copy")
    runs = tmp_path / "runs"
    leave(runs / "begun" / "responses.jsonl")
    leave(runs / "other" / ".samples.jsonl.123.tmp", "half")
    leave(runs / "other" / "responses.jsonl", "journal")
    leave(runs / ".removed-gone" / "samples.jsonl", "half")
    (runs / "empty").mkdir()
    os.utime(runs / "empty", (OLD, OLD))
    return tmp_path


def gc(out: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, str]:
    """Path below the runs -> why."""
    assert main(["runs", "gc", str(out), "--json", *flags]) == 0
    return {os.path.relpath(one["path"], out / "runs"): one["why"] for one in json.loads(capsys.readouterr().out)}


LEFTOVERS = {"other/.samples.jsonl.123.tmp", "other/responses.jsonl", ".removed-gone", "empty"}


def test_what_would_go_is_told_and_nothing_goes(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(out.rglob("*"))
    assert gc(out, capsys).keys() == LEFTOVERS
    assert gc(out, capsys, "--unfinished").keys() == LEFTOVERS | {"begun"}
    assert gc(out, capsys, "--invalidated").keys() == LEFTOVERS | {"marked"}
    found = gc(out, capsys, "--superseded")
    assert found.keys() - LEFTOVERS <= {"old", "new", "copy"} and "old" in found and len(found) == len(LEFTOVERS) + 2
    assert "a copy of" in found.get("copy", "") + found.get("new", "") and "is newer" in found["old"]
    assert sorted(out.rglob("*")) == before
    assert main(["runs", "gc", str(out)]) == 0
    assert "4 of these can go" in (told := capsys.readouterr().err) and "nothing was removed, --yes does it" in told


def test_what_was_told_goes_and_the_rest_is_what_it_was(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gc(out, capsys, "--yes").keys() == LEFTOVERS
    assert sorted(os.listdir(out / "runs")) == ["begun", "copy", "marked", "new", "old", "other"]
    assert gc(out, capsys, "--yes", "--superseded", "--unfinished", "--invalidated").keys() >= {
        "old",
        "marked",
        "begun",
    }
    assert main(["runs", "verify", str(out), "--json"]) == 0
    assert [one["status"] for one in json.loads(capsys.readouterr().out)] == ["ok", "ok"]
    assert gc(out, capsys, "--superseded", "--unfinished", "--invalidated") == {}
    assert main(["runs", "gc", str(out), "--yes"]) == 0
    assert "nothing can go" in (told := capsys.readouterr().err) and "removed" not in told


def test_a_run_that_another_process_writes_stays(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open(out / "runs" / "begun" / "responses.jsonl", "ab") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        assert main(["runs", "gc", str(out), "--unfinished", "--yes"]) == 0
    assert "another process is writing this run; kept" in capsys.readouterr().err
    assert (out / "runs" / "begun" / "responses.jsonl").is_file()


def test_only_runs_that_are_old_enough_go(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "begun" in gc(out, capsys, "--unfinished", "--older-than", "30")
    assert "old" not in gc(out, capsys, "--superseded", "--older-than", "1")


def test_answers_that_a_rescored_run_has_are_kept(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = {"run_id": "old", "samples_sha256": "0" * 64, "record_sha256": "0" * 64}
    make_run(out, "again", [1, 0], task="x", changes={"rescored_of": source})
    assert "old" not in gc(out, capsys, "--superseded")
