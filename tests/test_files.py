from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slmbench.errors import SlmbenchError
from slmbench.files import Journal, write_atomically, write_json


def reopened(path: Path) -> dict[str, object]:
    journal = Journal(str(path))
    journal.close()
    return journal.entries


def test_entries_are_there_when_the_journal_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "j.jsonl"
    journal = Journal(str(path))
    journal.append("a", {"text": "ü\n\ud800"})
    journal.append("b", 1)
    journal.append("a", 2)
    journal.close()
    assert reopened(path) == {"a": 2, "b": 1}
    assert len(path.read_bytes().splitlines()) == 3


@pytest.mark.parametrize("tail", [b'{"key": "c", "val', b"\0\0\0\0", b"{", '{"key": "ü'.encode()[:-1]])
def test_a_torn_tail_is_cut_and_writing_goes_on_after_it(tail: bytes, tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    whole = b'{"key": "a", "value": 1}\n{"key": "b", "value": 2}\n'
    path.write_bytes(whole + tail)
    journal = Journal(str(path))
    assert journal.entries == {"a": 1, "b": 2}
    assert path.read_bytes() == whole
    journal.append("c", 3)
    journal.close()
    assert reopened(path) == {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize(
    "line", [b"garbage", b"[1]", b"{}", b'{"key": [1], "value": 1}', b"\xff\xfe", b"null", b"[" * 100_000]
)
def test_a_damaged_line_costs_its_own_entry_alone(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"key": "a", "value": 1}\n' + line + b'\n{"key": "b", "value": 2}\n')
    assert reopened(path) == {"a": 1, "b": 2}


def test_what_is_no_json_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(str(path))
    with pytest.raises(ValueError, match="JSON compliant"):
        journal.append("a", float("nan"))
    journal.append("b", 1)
    journal.close()
    assert journal.entries == reopened(path) == {"b": 1}


WRITER = """
import sys
from slmbench.files import Journal
journal = Journal(sys.argv[1])
print("open", flush=True)
n = len(journal.entries)
while True:
    journal.append(f"key-{n}", {"n": n, "text": "x" * (n % 500)})
    sys.stdout.write(f"{n}\\n")
    sys.stdout.flush()
    n += 1
"""


@contextlib.contextmanager
def writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    refused = pytest.raises(SlmbenchError, match=r"j\.jsonl: another process is writing this run; wait for it to end")
    with writer(path), refused:
        Journal(str(path))
    Journal(str(path)).close()


def test_a_second_writer_of_the_same_process_is_refused_too(tmp_path: Path) -> None:
    first = Journal(str(tmp_path / "j.jsonl"))
    with pytest.raises(SlmbenchError, match="another process is writing this run"):
        Journal(first.path)
    first.append("a", 1)
    first.close()
    assert reopened(Path(first.path)) == {"a": 1}


def test_five_kills_lose_no_acknowledged_record(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    acknowledged = -1
    for kill in range(5):
        with writer(path) as process:
            time.sleep(0.02 + 0.03 * kill)
            process.send_signal(signal.SIGKILL)
            lines = process.stdout.read().split("\n")  # type: ignore[union-attr]
            acknowledged = max([acknowledged, *(int(line) for line in lines[:-1] if line)])
        with path.open("ab") as file:  # As a kill in the middle of a write would leave it.
            file.write(b'{"key": "torn", "value": {"n"' if kill % 2 else b"")
        entries = reopened(path)
        assert acknowledged >= 0
        assert len(entries) >= acknowledged + 1
        assert list(entries) == [f"key-{n}" for n in range(len(entries))]
        assert all(entries[f"key-{n}"] == {"n": n, "text": "x" * (n % 500)} for n in range(len(entries)))


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
from slmbench.files import Journal, write_atomically
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
