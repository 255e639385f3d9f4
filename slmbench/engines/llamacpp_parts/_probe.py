"""Whether llama.cpp may lay weights out anew for this processor: tried in a process that may die of it."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from importlib import metadata

from slmbench.console import phase, say
from slmbench.engines.llamacpp_parts._library import build_of
from slmbench.errors import EngineError
from slmbench.files import write_atomically
from slmbench.models import describe_gguf
from slmbench.paths import cache_dir, shown

_WAIT_S = 600
_TRY = """
import sys
from slmbench.engines.llamacpp_parts._library import Sequences, Weights
weights = Weights(sys.argv[1], repack=sys.argv[2] == "1")
one = Sequences(weights, cells=256, sequences=1, shared=True)
for count, place in ((64, 0), (1, 64)):
    for _ in one.feed([1] * count, range(place, place + count), [0] * count, [True] * count):
        pass
print("fine")
"""


def repacks(path: str) -> bool:
    """Whether a file's weights may be laid out anew, which is faster; known from then on for files packed like it.

    A build for AMX dies with SIGILL where the system doesn't let the process use its tiles (facts of llama-cpp-python
    0.3.36). Raises EngineError if llama.cpp dies either way.
    """
    place = os.path.join(cache_dir(), "llamacpp", _key(path))
    for repack in (True, False):
        known = os.path.join(place, "repacked" if repack else "plain")
        if os.path.exists(known):
            return repack
    with phase("trying what llama.cpp can do here"):
        died = ""
        for repack in (True, False):
            died, is_sure = _died(path, repack)
            if not died and not is_sure:
                return repack  # It told an error of its own, which this process is told, too: nothing is known by it.
            if not died:
                os.makedirs(place, exist_ok=True)
                write_atomically(os.path.join(place, "repacked" if repack else "plain"), b"")
                return repack
            if repack:
                say(f"llama.cpp dies here with weights laid out for the processor ({died}); they stay as they are")
    raise EngineError(
        f"llama.cpp dies on {shown(path)} ({died}); install it again with CMAKE_ARGS=-DGGML_NATIVE=OFF, or take "
        "--engine shared"
    )


def _died(path: str, repack: bool) -> tuple[str, bool]:
    """(what a child that computes a few tokens died of, '' if it lived; whether it computed them).

    An error that it tells of itself is no death.
    """
    command = [sys.executable, "-c", _TRY, path, str(int(repack))]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_WAIT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"nothing in {_WAIT_S} s", False
    if done.returncode >= 0:
        return "", done.stdout.strip() == b"fine"
    try:
        return signal.Signals(-done.returncode).name, False
    except ValueError:
        return f"signal {-done.returncode}", False


def _key(path: str) -> str:
    described = describe_gguf(path)
    parts = (metadata.version("llama-cpp-python"), build_of(), _processor(), described["architecture"])
    return hashlib.sha256("\n".join(map(str, (*parts, described["packing"]))).encode()).hexdigest()[:16]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return ""
