"""A hub that doesn't answer is asked once, and what it would have given is said to be missing at once."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from slmbench import hub


class Counting(http.server.BaseHTTPRequestHandler):
    asked = 0

    def do_HEAD(self) -> None:
        Counting.asked += 1
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(hub, "_answered", {})
    Counting.asked = 0
    with http.server.HTTPServer(("127.0.0.1", 0), Counting) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


def test_a_hub_that_answers_anything_is_there_and_is_asked_once_a_minute(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", server)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert (hub.hub_answers(), hub.hub_answers(), Counting.asked) == (True, True, 1)
    assert hub.use_cache_alone()  # Asked for, by HF_HUB_OFFLINE.
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert not hub.use_cache_alone()
    now = hub.time.monotonic()
    monkeypatch.setattr(hub.time, "monotonic", lambda: now + hub.REMEMBERED_S + 1)
    assert (hub.hub_answers(), Counting.asked) == (True, 2)


def test_a_model_that_neither_cache_nor_hub_has_is_told_without_a_retry(tmp_path: Path) -> None:
    code = """
from slmbench.catalog import default_catalog
from slmbench.errors import OfflineError
from slmbench.models import load_config, resolve_model
try:
    load_config(resolve_model("smollm2-135m", default_catalog()))
except OfflineError as error:
    print(error)
"""
    env = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    env |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "is neither in the local cache nor available from the hub" in done.stdout
    assert "retry" not in (done.stdout + done.stderr).lower()
