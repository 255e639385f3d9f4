from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmbench.errors import FileError, SlmbenchError
from slmbench.journal import Journal


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
from slmbench.journal import Journal
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


WRITTEN = {f"key-{n}": {"loglikelihood": -1.5 * n, "text": "ab" * n, "flags": [True, None]} for n in range(4)}


@given(
    start=st.integers(0, 400),
    length=st.integers(0, 3),
    new=st.binary(max_size=3) | st.sampled_from([b"\n", b"1e999", b"}", b'"']),
)
def test_whatever_is_written_over_a_journal_no_entry_is_another_than_was_written(
    start: int, length: int, new: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.jsonl"
    path.unlink(missing_ok=True)
    journal = Journal(str(path))
    for key, value in WRITTEN.items():
        journal.append(key, value)
    journal.close()
    whole = path.read_bytes()
    damaged = whole[:start] + new + whole[start + length :]
    path.write_bytes(damaged)
    journal = Journal(str(path))
    journal.close()
    assert journal.entries.items() <= WRITTEN.items()
    # One place takes two lines with it at most, where a line's end is in it; what is lost is said.
    assert len(journal.entries) >= 2
    assert journal.damage or len(journal.entries) == 4


def test_what_is_lost_is_said_by_line_and_reason(tmp_path: Path) -> None:
    def check(key: str, value: object) -> None:
        if value == "odd":
            from slmbench.foreign import faults

            raise faults("", [("value", value, "even")])

    path = tmp_path / "j.jsonl"
    journal = Journal(str(path), check)
    for key, value in {"a": "even", "b": "odd", "c": "even"}.items():
        journal.append(key, value)
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0].replace(b"even", b"evil") + lines[1] + b"[1]\n{\n" + lines[2] + b'{"key"')
    journal = Journal(str(path), check)
    journal.close()
    assert journal.entries == {"c": "even"}
    assert journal.damage == [
        "line 1 does not match its checksum",
        'line 2: field value is "odd", has to be even',
        "line 3 is a list of 1, has to be an object",
        "line 4 is not valid JSON (Expecting property name enclosed in double quotes, line 4, column 2); "
        "it was cut off or edited",
        "line 6 is cut off",
    ]
    assert journal.damage_said().endswith("; and 2 more lines")
    assert issubclass(FileError, SlmbenchError)


def test_a_line_without_a_checksum_as_of_an_earlier_version_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"key": "a", "value": {"n": 1}}\n')
    assert reopened(path) == {"a": {"n": 1}}


def test_a_line_without_end_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"key": "a", "value": 1}\n' + b"x" * 40_000_000 + b'\n{"key": "b", "value": 2}\n')
    assert reopened(path) == {"a": 1, "b": 2}
