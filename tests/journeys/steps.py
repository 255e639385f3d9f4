"""What the journeys are made of: steps without a network, and what a journey left to be looked at."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs

APART = ["unshare", "--user", "--map-root-user", "--net"]
# For machines that let nobody make a namespace: Python itself refuses, in the process and in all that it starts.
BLOCK = """\
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        if isinstance(arguments[1], (tuple, type(None))):  # A text or bytes is a socket's file.
            raise OSError(101, "Network is unreachable")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        raise OSError(101, "Network is unreachable")

sys.addaudithook(refuse)
"""
MARK = ">>> "


@attrs.frozen
class Step:
    """One command of a script, and all that it printed."""

    command: str
    said: str


def namespaces() -> bool:
    """Whether this machine lets us start a command in a namespace without a network."""
    try:
        return subprocess.run([*APART, "true"], capture_output=True, check=False, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def without_network(folder: Path, *, apart: bool) -> list[str]:
    """What a command is put behind to have no network, and no word of it either: the hub isn't switched off."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("" if apart else BLOCK, encoding="utf-8")
    places = "" if apart else f'PYTHONPATH={shlex.quote(str(folder))}"${{PYTHONPATH:+:$PYTHONPATH}}" '
    script = folder / "offline"
    before = shlex.join(APART) + " " if apart else ""
    script.write_text(f'#!/bin/sh\nunset HF_HUB_OFFLINE\n{places}exec {before}"$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return [str(script)]


def slmbench_offline(offline: list[str], *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command of slmbench behind `offline`, which has to end well; environment: variables of its own."""
    done = subprocess.run(
        [*offline, sys.executable, "-m", "slmbench", *words],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def runs_of(out: Path) -> dict[str, dict[str, Any]]:
    """name of what was scored -> its run's record, with its samples under `samples`."""
    found = {}
    for path in sorted(out.glob("runs/*/run.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        name = record["model"]["name"] + (f" + {record['adapter']['name']}" if record["adapter"] else "")
        assert name not in found
        lines = (path.parent / "samples.jsonl").read_text(encoding="utf-8").splitlines()
        found[name] = record | {"samples": [json.loads(line) for line in lines]}
    return found


def board_of(folder: Path) -> dict[str, dict[str, Any]]:
    """name of a row -> the row of the leaderboard in that folder."""
    board = json.loads((folder / "leaderboard.json").read_text(encoding="utf-8"))
    return {row["name"]: row for row in board["rows"]}
