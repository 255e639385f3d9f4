from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slmbench.errors import SlmbenchError
from slmbench.files import write_atomically, write_json
from slmbench.journal import Journal


def reopened(path: Path) -> dict[str, object]:
    journal = Journal(str(path))
    journal.close()
    return journal.entries


def test_a_file_is_replaced_whole_and_no_temporary_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.json"
    write_json(str(path), {"a": 1})
    write_json(str(path), {"a": [2, "ü"]})
    assert json.loads(path.read_text()) == {"a": [2, "ü"]}
    assert os.listdir(path.parent) == ["run.json"]


def test_nan_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json(str(path), {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(str(path), {"a": float("inf")})
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_failing_rename_leaves_the_old_file_and_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    write_atomically(str(path), b"old")

    def interrupted(source: str, target: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["run.json"]


def test_a_path_that_is_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(SlmbenchError, match=r"can't be written: Is a directory"):
        write_atomically(str(tmp_path), b"x")
    (tmp_path / "file").write_text("x")
    with pytest.raises(SlmbenchError, match=r"can't be written: (Not a directory|File exists)"):
        write_atomically(str(tmp_path / "file" / "x"), b"x")


def test_readers_see_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_atomically(str(path), b"0" * 200_000)
    pid = os.fork()
    if pid == 0:  # Another process, that writes until it is killed.
        try:
            for i in range(100_000):
                write_atomically(str(path), str(i % 10).encode() * 200_000)
        finally:
            os._exit(0)
    try:
        for _ in range(100):
            data = path.read_bytes()
            assert len(data) == 200_000 and data == data[:1] * 200_000
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB: a real one where mounting is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_says_what_to_do_and_leaves_the_old_file(small_disk: Path) -> None:
    path = small_disk / "run.json"
    write_atomically(str(path), b"old")
    with pytest.raises(
        SlmbenchError, match=r"run\.json: the disk is full; free some space and run the same command again"
    ):
        write_atomically(str(path), b"x" * 100_000)
    assert path.read_bytes() == b"old"
    assert os.listdir(small_disk) == ["run.json"]


def test_a_disk_that_fills_up_keeps_every_acknowledged_entry(small_disk: Path) -> None:
    path = small_disk / "j.jsonl"
    journal = Journal(str(path))
    with pytest.raises(SlmbenchError, match=r"j\.jsonl: the disk is full"):
        for n in range(10_000):
            journal.append(f"key-{n}", "x" * 100)
    acknowledged = dict(journal.entries)
    assert acknowledged
    with contextlib.suppress(SlmbenchError):
        journal.close()
    assert reopened(path) == acknowledged
    assert path.read_bytes().endswith(b"\n")


LIMITED = """
import resource, signal, sys
from slmbench.errors import SlmbenchError
from slmbench.files import write_atomically
from slmbench.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
journal = Journal("j.jsonl")
try:
    for n in range(10_000):
        journal.append(f"key-{n}", "x" * 100)
except SlmbenchError as error:
    print(len(journal.entries), error)
try:
    write_atomically("run.json", b"x" * 30_000)
except SlmbenchError as error:
    print(error)
sys.stdout.flush()
import os
os._exit(0)
"""


def test_a_file_that_may_grow_no_more_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    assert resource.RLIMIT_FSIZE is not None
    (tmp_path / "run.json").write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    first, second = done.stdout.splitlines()
    n, message = first.split(" ", 1)
    assert message.startswith("j.jsonl: can't be written: File too large")
    assert second.startswith("run.json: can't be written: File too large")
    assert (tmp_path / "run.json").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["j.jsonl", "run.json"]
    assert list(reopened(tmp_path / "j.jsonl")) == [f"key-{i}" for i in range(int(n))]
