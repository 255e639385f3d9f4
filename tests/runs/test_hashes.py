"""Digests of samples: made once, and again as soon as a file may be another."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from slmbench.errors import FileError
from slmbench.leaderboard import read_runs
from slmbench.runs import SampleHashes, _hashes, read_record
from tests.leaderboard.conftest import make_run


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of runs whose samples were read; files count as settled at once."""
    monkeypatch.setenv("SLMBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_hashes, "_SETTLED_NS", -1)
    names, digest = [], _hashes._digest

    def noted(path: str) -> object:
        names.append(Path(path).parent.name)
        return digest(path)

    monkeypatch.setattr(_hashes, "_digest", noted)
    return names


def load(out: Path) -> list[str]:
    return [run.run_id for run in read_runs(out).runs]


def test_samples_are_read_once_and_again_if_their_file_may_be_another(read: list[str], tmp_path: Path) -> None:
    folders = {name: make_run(tmp_path, name, [1, 0, 1]) for name in ("one", "two")}
    assert load(tmp_path) == ["one", "two"] and sorted(read) == ["one", "two"]
    assert load(tmp_path) == ["one", "two"] and len(read) == 2
    path = folders["one"] / "samples.jsonl"
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"output 1", b"output 9"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # Size, place and time of change are as they were.
    assert load(tmp_path) == ["two"] and read[2:] == ["one"]


def test_a_file_that_was_changed_just_now_is_read_again(
    read: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_hashes, "_SETTLED_NS", 2_000_000_000)
    make_run(tmp_path, "one", [1, 0])
    assert load(tmp_path) == load(tmp_path) == ["one"] and read == ["one", "one"]


@pytest.mark.parametrize("damage", ["text", "cut", "folder", "table"])
def test_an_index_that_is_none_costs_no_more_than_itself(damage: str, read: list[str], tmp_path: Path) -> None:
    make_run(tmp_path, "one", [1, 0])
    load(tmp_path)
    path = tmp_path / "cache" / "samples.sqlite"
    if damage == "text":
        path.write_text("no database" * 500)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "table":
        with sqlite3.connect(path) as index:
            index.execute("DROP TABLE hashes")
            index.execute("CREATE TABLE hashes (other TEXT)")
    else:
        path.unlink()
        path.mkdir()
    assert load(tmp_path) == ["one"] and read == ["one", "one"]


def test_a_digest_of_the_cache_that_is_anothers_is_not_believed(read: list[str], tmp_path: Path) -> None:
    make_run(tmp_path, "one", [1, 0])
    load(tmp_path)
    with sqlite3.connect(tmp_path / "cache" / "samples.sqlite") as index:
        index.execute("UPDATE hashes SET sha256 = ?", ("0" * 64,))
    assert load(tmp_path) == ["one"] and read == ["one", "one"]


def test_without_an_index_every_file_is_read(read: list[str], tmp_path: Path) -> None:
    folder = make_run(tmp_path, "one", [1, 0])
    for _ in range(2):
        with SampleHashes(index=False) as hashes:
            hashes.begin(folder, read_record(folder))()
            with pytest.raises(FileError, match="changed after the run ended"):
                hashes.begin(folder, {"samples_sha256": "f" * 64})()
    assert len(read) == 4 and not (tmp_path / "cache").exists()
