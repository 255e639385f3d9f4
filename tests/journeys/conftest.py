"""What the journeys share: a script of commands as a person types them, run in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@cache
def without_network() -> str:
    """What a command is put behind to have no network: a namespace without one where the machine lets us, else `env`
    with the hub switched off."""
    apart = ["unshare", "--user", "--map-root-user", "--net"]
    try:
        done = subprocess.run([*apart, "true"], capture_output=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "env HF_HUB_OFFLINE=1"
    return " ".join(apart) if done.returncode == 0 else "env HF_HUB_OFFLINE=1"


@pytest.fixture
def journey(tmp_path: Path) -> Callable[..., str]:
    """journey(script, *arguments) -> what it printed; it ran in tmp_path/journey, and every command of it ended well.

    $OFFLINE in a script stands before what has to do without a network.
    """

    def run(script: str, *arguments: str) -> str:
        folder = tmp_path / "journey"
        folder.mkdir(exist_ok=True)
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", str(HERE / script), *arguments],
            cwd=folder,
            env=os.environ | {"PATH": path, "OFFLINE": without_network()},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    return run
