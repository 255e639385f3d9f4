"""What the journeys share: a script of commands as a person types them, run in a folder of its own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.journeys.steps import MARK, Step, namespaces, without_network

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def offline(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words before a command that has to do without a network."""
    return without_network(tmp_path_factory.mktemp("offline") / "bin", apart=namespaces())


@pytest.fixture
def journey(tmp_path: Path, offline: list[str]) -> Callable[..., list[Step]]:
    """journey(script, *arguments) -> its steps; it ran in tmp_path/journey, and every command of it ended well.

    $OFFLINE in a script stands before what has to do without a network.
    """
    tools = tmp_path / "bin"
    tools.mkdir()
    told = tools / "slmbench"
    real = shlex.quote(os.path.join(os.path.dirname(sys.executable), "slmbench"))
    told.write_text(f'#!/bin/sh\necho "{MARK}slmbench $*"\nexec {real} "$@"\n', encoding="utf-8")
    told.chmod(0o755)

    def run(script: str, *arguments: str) -> list[Step]:
        folder = tmp_path / "journey"
        folder.mkdir()
        path = os.pathsep.join([str(tools), os.path.dirname(sys.executable), os.environ.get("PATH", "")])
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", str(HERE / script), *arguments],
            cwd=folder,
            env=os.environ | {"PATH": path, "OFFLINE": shlex.join(offline)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert "Traceback" not in done.stdout
        steps = [part.partition("\n") for part in ("\n" + done.stdout).split(f"\n{MARK}")[1:]]
        return [Step(command, said) for command, _, said in steps]

    return run
