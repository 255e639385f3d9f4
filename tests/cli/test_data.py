"""`slmbench data`: files and verdicts on stdout, progress and notes on stderr, 2 for a damaged mirror."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from slmbench.cli.data import command
from slmbench.errors import OfflineError, UsageError


@pytest.fixture
def pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The result of `data pull gsm8k`, with a stand-in for the hub; the mirror is at tmp_path/mirror."""
    import datasets

    rows = [{"question": f"{i}?", "answer": f"So.\n#### {i}"} for i in range(3)]
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: rows)
    return CliRunner().invoke(command, ["pull", "gsm8k", "--to", str(tmp_path / "mirror")])


def test_pull_prints_files_on_stdout_and_progress_on_stderr(pulled: Any, tmp_path: Path) -> None:
    assert pulled.exit_code == 0, pulled.output
    assert [Path(line).name for line in pulled.stdout.splitlines()] == ["train.jsonl", "test.jsonl", "checksums.json"]
    assert "gsm8k: train, 3 rows" in pulled.stderr and "SLMBENCH_DATA=mirror" in pulled.stderr


def test_verify_of_a_sound_mirror_ends_with_0(pulled: Any, tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["verify", str(tmp_path / "mirror")])
    assert result.exit_code == 0 and result.stdout.endswith("mirror: 2 files, ok\n")


def test_verify_takes_the_folder_of_slmbench_data(pulled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLMBENCH_DATA", str(tmp_path / "mirror"))
    assert CliRunner().invoke(command, ["verify"]).exit_code == 0


def test_verify_of_a_damaged_mirror_ends_with_2_and_names_the_file(pulled: Any, tmp_path: Path) -> None:
    with open(tmp_path / "mirror" / "gsm8k" / "test.jsonl", "a", encoding="utf-8") as file:
        file.write("{oops\n")
    result = CliRunner().invoke(command, ["verify", str(tmp_path / "mirror"), "gsm8k", "--json"])
    assert result.exit_code == 2
    value = json.loads(result.stdout)
    assert value["ok"] is False and value["files"] == 2 and value["notices"] == []
    assert {problem["path"].rpartition("/")[2] for problem in value["problems"]} == {"test.jsonl"}
    assert 4 in {problem["line"] for problem in value["problems"]}
    result = CliRunner().invoke(command, ["verify", str(tmp_path / "mirror")])
    assert result.exit_code == 2 and "3 problems" in result.stdout


def test_a_hand_made_mirror_gets_a_note_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "test.jsonl").write_text('{"question": "?", "answer": "1"}\n')
    result = CliRunner().invoke(command, ["verify", str(tmp_path)])
    assert result.exit_code == 0 and "columns checked only" in result.stderr and "note" not in result.stdout


def test_verify_without_a_folder_says_how_to_name_one() -> None:
    result = CliRunner().invoke(command, ["verify"])
    assert isinstance(result.exception, UsageError) and "SLMBENCH_DATA" in str(result.exception)


def test_pull_offline_is_an_offline_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["pull", "gsm8k", "--to", str(tmp_path)])
    assert isinstance(result.exception, OfflineError) and result.exception.exit_code == 4
    assert result.stdout == ""
