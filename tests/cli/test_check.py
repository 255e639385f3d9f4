"""`slmbench check`: what is on stdout, what on stderr, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from slmbench.cli.check import command
from slmbench.errors import TrustError, UsageError
from slmbench.scaffold import new_task


@pytest.fixture
def own_task(tmp_path: Path) -> Path:
    """The folder of a sound task that is on no path."""
    new_task("findings", str(tmp_path))
    return tmp_path / "tasks" / "findings"


def _break(folder: Path) -> None:
    path = folder / "task.yaml"
    path.write_text(path.read_text().replace("license: apache-2.0", "licence: apache-2.0"))


def test_a_sound_task_prints_a_table_and_ends_with_0(own_task: Path) -> None:
    result = CliRunner().invoke(command, ["nano_choice", str(own_task)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "task         rows  source     formats      result",
        "nano_choice   404  generated  plain, chat  ok",
        "findings       64  file       plain, chat  ok",
    ]


def test_problems_follow_the_table_and_end_with_2(own_task: Path) -> None:
    _break(own_task)
    result = CliRunner().invoke(command, [str(own_task)])
    assert result.exit_code == 2
    lines = result.stdout.splitlines()
    assert lines[1].split() == ["findings", "0", "-", "-", "1", "problem"]
    assert lines[2].endswith("task.yaml:5:1: unknown key 'licence'; did you mean 'license'?")


def test_json_is_an_array_alone_on_stdout(own_task: Path) -> None:
    _break(own_task)
    result = CliRunner().invoke(command, [str(own_task), "gsm8k", "--json"])
    assert result.exit_code == 2
    broken, sound = json.loads(result.stdout)
    assert sound == {"task": "gsm8k", "ok": True, "problems": []}
    assert (broken["task"], broken["ok"]) == ("findings", False)
    (problem,) = broken["problems"]
    assert set(problem) == {"path", "line", "message"} and problem["line"] == 5
    assert "note: gsm8k: split 'test' is on the hub alone" in result.stderr


def test_samples_only(own_task: Path) -> None:
    (own_task / "test.jsonl").unlink()
    assert CliRunner().invoke(command, [str(own_task)]).exit_code == 2
    result = CliRunner().invoke(command, [str(own_task), "--data", "samples"])
    assert result.exit_code == 0 and "4  samples" in result.stdout


def test_a_plugin_outside_the_path_needs_trust(own_task: Path, tmp_path: Path) -> None:
    flag = tmp_path / "ran"
    (own_task / "plugin.py").write_text(f"open({str(flag)!r}, 'w').close()\n")
    result = CliRunner().invoke(command, ["nano_choice", str(own_task)])
    assert isinstance(result.exception, TrustError) and result.exception.exit_code == 3
    assert not flag.exists() and result.stdout == ""
    assert CliRunner().invoke(command, [str(own_task), "--trust"]).exit_code == 0
    assert flag.exists()


def test_a_folder_of_the_path_is_trusted(own_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own_task / "plugin.py").write_text("def example(row):\n    return {}\n")
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    assert CliRunner().invoke(command, ["findings"]).exit_code == 0
    assert CliRunner().invoke(command, [str(own_task)]).exit_code == 0


def test_all_checks_the_bundled_tasks_and_ones_own(
    own_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    result = CliRunner().invoke(command, ["--all", "--json", "--data", "samples"])
    assert result.exit_code == 0, result.output
    names = [report["task"] for report in json.loads(result.stdout)]
    assert {"findings", "gsm8k", "hellaswag", "nano_note"} <= set(names) and names == sorted(names)


def test_nothing_named_is_a_usage_error_that_names_all() -> None:
    result = CliRunner().invoke(command, [])
    assert isinstance(result.exception, UsageError) and "--all" in str(result.exception)


def test_an_unknown_name_is_a_usage_error_with_the_nearest() -> None:
    result = CliRunner().invoke(command, ["gsm9k"])
    assert isinstance(result.exception, UsageError) and "did you mean 'gsm8k'?" in str(result.exception)
