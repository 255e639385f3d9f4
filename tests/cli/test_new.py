"""`slmbench new task`: the files on stdout, the next commands on stderr."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from slmbench.cli.check import command as check_command
from slmbench.cli.new import command
from slmbench.errors import UsageError


def test_files_on_stdout_and_next_commands_on_stderr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(command, ["task", "findings", "--to", str(tmp_path)])
    assert result.exit_code == 0, result.output
    files = result.stdout.splitlines()
    assert len(files) == 5 and all(os.path.isfile(path) for path in files)
    assert f"export SLMBENCH_PATH={tmp_path}" in result.stderr
    for line in ("slmbench check findings", "slmbench eval nano --tasks findings", "slmbench run findings"):
        assert line in result.stderr
    # As the commands say.
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    assert CliRunner().invoke(check_command, ["findings"]).exit_code == 0


def test_the_first_folder_of_the_path_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir(), second.mkdir()
    monkeypatch.setenv("SLMBENCH_PATH", os.pathsep.join([str(first), str(second)]))
    result = CliRunner().invoke(command, ["task", "findings", "--json"])
    assert result.exit_code == 0, result.output
    assert all(path.startswith(str(first)) for path in json.loads(result.stdout))
    assert "export" not in result.stderr


def test_without_a_path_the_current_folder_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, ["task", "findings"])
    assert result.stdout.splitlines()[0] == os.path.join("tasks", "findings", "task.yaml")
    assert (tmp_path / "registry" / "recipes" / "findings.yaml").is_file()


def test_a_second_time_is_refused_with_the_folders_name(tmp_path: Path) -> None:
    arguments = ["task", "findings", "--to", str(tmp_path)]
    assert CliRunner().invoke(command, arguments).exit_code == 0
    result = CliRunner().invoke(command, arguments)
    assert isinstance(result.exception, UsageError)
    assert str(tmp_path / "tasks" / "findings") in str(result.exception) and result.stdout == ""
