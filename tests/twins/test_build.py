"""Twins' folders: the same bytes from the same declaration, whole or not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.errors import SlmbenchError, UsageError
from slmbench.twins import build_twin

NAMES = sorted(set(default_catalog().files("models")) - {"nano"})
BUILD = (
    "from slmbench.catalog import default_catalog\n"
    "from slmbench.models import resolve_model\n"
    "print(resolve_model('qwen2.5-0.5b', default_catalog(), twin=True).location)\n"
)
# Two processes, which import what is large once.
BUILD_TWICE = (
    "import os, sys\n"
    "from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM\n"
    "other = os.fork()\n" + BUILD + "sys.stdout.flush()\n"
    "sys.exit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) if other else 0)\n"
)


def _files(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _start(code=BUILD):
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("name", NAMES)
def test_same_declaration_gives_the_same_bytes_in_any_cache(name, spec_of, tmp_path, monkeypatch):
    found = []
    for cache in ("a", "b"):
        monkeypatch.setenv("SLMBENCH_CACHE", str(tmp_path / cache))
        found.append(build_twin(name, spec_of(name)))
    assert os.path.basename(found[0]) == os.path.basename(found[1])
    assert _files(found[0]) == _files(found[1])


def test_another_seed_or_size_or_kind_gives_another_twin(spec_of, own_cache):
    name = "smollm2-135m"
    changes = ({}, {"twin": {"seed": 7}}, {"twin": {"layers": 1}}, {"instruct": True}, {"tied_head": False})
    folders = [build_twin(name, spec_of(name, **change)) for change in changes]
    assert len(set(folders)) == len(changes)
    weights = [_files(folder)["model.safetensors"] for folder in folders]
    assert weights[0] != weights[1]
    assert len(weights[0]) == len(weights[1]) > len(weights[2])
    # How turns end is no matter of weights.
    assert weights[0] == weights[3]
    assert sorted(path.name for path in own_cache.iterdir()) == sorted(map(os.path.basename, folders))


def test_a_twin_that_is_there_is_not_built_again(spec_of, own_cache):
    folder = build_twin("llama-3.2-3b", spec_of("llama-3.2-3b"))
    before = {path.name: path.stat().st_mtime_ns for path in Path(folder).iterdir()}
    assert build_twin("llama-3.2-3b", spec_of("llama-3.2-3b")) == folder
    assert {path.name: path.stat().st_mtime_ns for path in Path(folder).iterdir()} == before


@pytest.mark.parametrize("harm", ["cut", "bit", "gone", "manifest", "no manifest", "empty"])
def test_a_damaged_twin_is_built_again_and_that_is_said(spec_of, own_cache, harm, capsys):
    folder = Path(build_twin("smollm2-135m", spec_of("smollm2-135m")))
    expected = _files(folder)
    weights, manifest = folder / "model.safetensors", folder / "twin.json"
    if harm == "cut":
        weights.write_bytes(expected["model.safetensors"][:-7])
    elif harm == "bit":
        weights.write_bytes(expected["model.safetensors"][:-1] + bytes([expected["model.safetensors"][-1] ^ 1]))
    elif harm == "gone":
        (folder / "tokenizer.json").unlink()
    elif harm == "manifest":
        manifest.write_text("[1]")
    elif harm == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text(json.dumps({"files": {}}))
    capsys.readouterr()
    assert build_twin("smollm2-135m", spec_of("smollm2-135m")) == str(folder)
    assert f"{folder} is not as it was built; the twin is built again" in capsys.readouterr().err
    assert _files(folder) == expected
    assert [path.name for path in own_cache.iterdir()] == [folder.name]


def test_two_processes_at_once_get_one_whole_twin(own_cache):
    builds = _start(BUILD_TWICE)
    said = builds.communicate(timeout=120)[0].split()
    assert builds.returncode == 0
    assert len(said) == 2 and len(set(said)) == 1
    assert [str(path) for path in own_cache.iterdir()] == said[:1]


@pytest.mark.parametrize("seen", ["tokenizer_config.json", "model.safetensors"])
def test_a_killed_build_leaves_nothing_that_is_used(spec_of, own_cache, seen):
    # The process stops itself where the file is written, so that the kill comes in the middle of the build.
    stop = (
        "import os, signal, sys\n"
        "def watch(event, args):\n"
        f"    if event == 'open' and {seen!r} in str(args[0]) and 'w' in str(args[1]):\n"
        "        os.kill(os.getpid(), signal.SIGSTOP)\n"
        "sys.addaudithook(watch)\n"
    )
    build = _start(stop + BUILD)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            pid, status = os.waitpid(build.pid, os.WNOHANG | os.WUNTRACED)
            if pid:
                break
            time.sleep(0.02)
        assert pid and os.WIFSTOPPED(status)
    finally:
        build.send_signal(signal.SIGKILL)
        build.communicate()
    (left,) = own_cache.iterdir()
    assert left.name.startswith(".building-")
    folder = Path(build_twin("qwen2.5-0.5b", spec_of("qwen2.5-0.5b")))
    assert "model.safetensors" in _files(folder)
    assert left.is_dir()  # It may be somebody's who is still at work.
    old = time.time() - 7200
    os.utime(left, (old, old))
    build_twin("qwen2.5-1.5b", spec_of("qwen2.5-1.5b"))
    assert not left.exists()


def test_building_draws_nothing_from_the_callers_random_numbers(spec_of, own_cache):
    import random

    import torch

    random.seed(7), torch.manual_seed(7)
    expected = random.random(), torch.rand(3)
    random.seed(7), torch.manual_seed(7)
    build_twin("flan-t5-small", spec_of("flan-t5-small"))
    assert random.random() == expected[0]
    assert torch.equal(torch.rand(3), expected[1])


def test_a_cache_that_cannot_be_written_is_a_named_error(spec_of, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SLMBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(SlmbenchError, match=r"file/twins: can't be written"):
        build_twin("smollm2-135m", spec_of("smollm2-135m"))


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("nano", {}, "lacks `twin`"),
        ("smollm2-135m", {"family": "nano"}, "lacks `twin`, or a `family`"),
        ("smollm2-135m", {"family": "t5"}, "family 't5' is not causal"),
        ("smollm2-135m", {"twin": {"kv_heads": 3}}, r"twin.heads \(4\) is not a multiple of twin.kv_heads \(3\)"),
        ("smollm2-135m", {"twin": {"head_width": 33}}, r"head_width \(33\) is odd"),
        (
            "phi-3.5-mini-instruct",
            {"twin": {"head_width": 64}},
            r"twin.hidden \(128\) is heads \* head_width \(4 \* 64\)",
        ),
    ],
)
def test_a_twin_that_can_not_be_is_refused_and_nothing_is_written(spec_of, own_cache, name, changes, said):
    with pytest.raises(UsageError, match=said):
        build_twin(name, spec_of(name, **changes))
    assert not own_cache.exists()
