"""A real server, llama-cpp-python's own over a GGUF file: texts are those of transformers, choices are seen through."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.engines.options import EngineOptions
from slmbench.engines.protocol import WriteRequest
from slmbench.engines.server_address import ServerOptions
from slmbench.engines.serving import ServerBatches, meet
from slmbench.errors import UsageError
from slmbench.models import load_model, load_unread, resolve_model
from tests.models.gguf_file import write_gguf

pytestmark = [
    pytest.mark.llamacpp,
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("llama_cpp", "fastapi", "uvicorn")),
        reason="llama-cpp-python's server isn't installed: pip install 'llama-cpp-python[server]'",
    ),
]
TEXTS = ("Add 12 and 30. The sum is", "Note: Pulse 77. Started on penicillin.\nSummary:", "x", "Question: 1 + 1 =")


@pytest.fixture(scope="module")
def nano() -> Any:
    return load_model(resolve_model("nano", default_catalog()))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, nano: Any) -> str:
    return str(write_gguf(tmp_path_factory.mktemp("file") / "nano.gguf", nano, packing="F32"))


@pytest.fixture(scope="module")
def started(file: str) -> Iterator[Callable[..., str]]:
    """started(**settings) -> the URL of a server with the file."""
    children = []

    def start(**settings: str) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
        what = [sys.executable, "-m", "llama_cpp.server", "--model", file, "--host", "127.0.0.1", "--port", str(port)]
        children.append(
            subprocess.Popen([*what, "--n_ctx", "1024", "--n_threads", "1", *flags], stderr=subprocess.DEVNULL)
        )
        until = time.monotonic() + 60
        while time.monotonic() < until and children[-1].poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return f"http://127.0.0.1:{port}"
            time.sleep(0.1)
        pytest.fail("the server didn't start")

    yield start
    for child in children:
        child.kill()
        child.wait()


def met(file: str, url: str, *choice_tasks: str) -> ServerBatches:
    chosen = EngineOptions("server", 2, server=ServerOptions(url))
    return ServerBatches(
        meet(load_unread(resolve_model(file, default_catalog(), unpacked=False)), chosen, choice_tasks), 0
    )


def test_texts_are_those_of_hf_on_the_same_weights(nano: Any, file: str, started: Callable[..., str]) -> None:
    engine = met(file, started())
    told = engine.loaded.served
    assert told is not None and (told["api"], told["server"]) == ("/v1/completions", "uvicorn")
    kwargs = {"until": ["\n"], "do_sample": False, "max_gen_toks": 24}
    encode = nano.tokenizer.encode
    requests = [WriteRequest(("t", at), text, encode(text), dict(kwargs)) for at, text in enumerate(TEXTS)]
    chosen = EngineOptions("hf", 1)
    theirs = dict(chosen.registered.function(nano, chosen, 0).write(requests))
    mine = dict(engine.write(requests))
    assert [mine[at].text for at in range(4)] == [theirs[at].text for at in range(4)]
    assert not [one.plain for one in mine.values() if "another number of tokens" in one.plain]


def test_choices_are_refused_without_log_probabilities_and_with_those_of_another_place(
    file: str, started: Callable[..., str]
) -> None:
    """0.3.36 looks each token up one place too late, where a model has no BOS of its own before a text."""
    for settings in ({}, {"logits_all": "true"}):
        with pytest.raises(UsageError, match="hold, and boolq needs them "):
            met(file, started(**settings), "boolq")
