"""llama.cpp's own quantiser, in a process of its own: it ends its process at a fault, and can't be interrupted."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

from slmbench.errors import SlmbenchError, UsageError
from slmbench.files import is_disk_full
from slmbench.gguf_files._kinds import Kind
from slmbench.paths import shown

_CHILD = os.path.join(os.path.dirname(__file__), "_quantise_child.py")
_FULL = ("No space left", "failed to write", "Disk quota")


def quantiser(kind: Kind) -> str:
    """What packs a kind here, as `llama.cpp (llama-cpp-python 0.3.36)`; '' where nothing is packed.

    llama.cpp's own quantiser where it is installed, gguf's otherwise. Raises UsageError for a kind that neither packs.
    """
    if kind.is_whole:
        return ""
    if (there := _llama_cpp()) is not None:
        return f"llama.cpp (llama-cpp-python {there})"
    if kind.packing is None:
        from slmbench.gguf_files._kinds import KINDS

        others = ", ".join(name for name, one in KINDS.items() if one.packing and not one.is_whole)
        raise UsageError(
            f"--quantize {kind.name.lower()}: only llama.cpp's own quantiser packs this, which `pip install "
            f"slmbench[llamacpp]` brings (it is compiled); without it {others}"
        )
    return f"gguf {version('gguf')}"


def quantise(source: str, path: str, kind: Kind, *, threads: int) -> None:
    """Has llama.cpp pack an F32 file as another; whole or not at all. Raises SlmbenchError if it can't."""
    import gguf

    beside = f"{path}.tmp"
    command = [sys.executable, _CHILD, source, beside, str(int(gguf.LlamaFileType[kind.file_type])), str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode != 0:
            said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit {done.returncode}"]
            full = any(word in done.stderr for word in _FULL)
            what = "the disk is full; free some space and run the same command again" if full else said[-1].strip()
            raise SlmbenchError(f"{shown(path)}: llama.cpp's quantiser made no {kind.name}: {what}")
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        what = "the disk is full" if is_disk_full(error) else str(error.strerror)
        raise SlmbenchError(f"{shown(path)}: can't be written: {what}") from error
    finally:
        if os.path.exists(beside):
            os.unlink(beside)


def _llama_cpp() -> str | None:
    if importlib.util.find_spec("llama_cpp") is None:
        return None
    try:
        return version("llama-cpp-python")
    except PackageNotFoundError:
        return "of an unknown version"
