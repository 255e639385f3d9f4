"""What the last steps of every journey are put behind: a command has no network there."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.journeys.steps import namespaces, without_network

ASK = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5)"
CHILD = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {ASK!r}, sys.argv[1]]).returncode)"


@pytest.mark.parametrize("apart", [True, False], ids=["namespace", "in Python"])
def test_nothing_is_reached_from_there(apart: bool, tmp_path: Path) -> None:
    if apart and not namespaces():
        pytest.skip("no namespace without a network can be made here: `unshare --user --map-root-user --net` fails")
    before = without_network(tmp_path / "bin", apart=apart)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        for words in ([], before):
            for program in (ASK, CHILD):
                command = [*words, sys.executable, "-c", program, port]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                assert done.returncode == (1 if words else 0)
                assert ("Network is unreachable" in done.stderr) == bool(words)
