"""`slmbench run --deploy`: what is trained is packed, and every file scored by the program that runs it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from slmbench.cli import main

QUICK = ["run", "nano-quickstart", "--adapter", "arithmetic", "--set", "adapters.arithmetic.steps=4", "--limit", "6"]
QUICK += ["--set", "evaluation={tasks: [nano_choice]}"]
needs_llama_cpp = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python isn't installed: slmbench[llamacpp]"
)


@pytest.mark.llamacpp
@needs_llama_cpp
def test_base_adapter_merged_and_files_are_rows_of_one_leaderboard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*QUICK, "--deploy", "q8_0,q4_0", "--out", str(tmp_path), "--json"]) == 0
    told = capsys.readouterr()
    rows = {row["name"]: row for row in json.loads(told.out)["rows"]}
    files = ["arithmetic-Q4_0 (llama.cpp)", "arithmetic-Q8_0 (llama.cpp)"]
    assert sorted(rows) == sorted(["nano", "nano + arithmetic", "arithmetic-merged", *files])
    sizes = [rows[name]["cost"]["model_B"] for name in files]
    assert sizes[0] < sizes[1] < rows["arithmetic-merged"]["cost"]["model_B"]
    for name in files:
        assert rows[name]["cost"]["latency_p50_ms"] > 0 < rows[name]["cost"]["prefill_tokens_per_s"]
    assert "arithmetic: merged, against the adapter, changes nothing of accuracy on nano_choice [" in told.err
    bits = {name: rows[name]["scores"]["nano_choice/bits_per_byte"]["value"] for name in rows}
    assert bits["nano + arithmetic"] == pytest.approx(bits["arithmetic-merged"], abs=1e-3)
    assert len({round(bits[name], 9) for name in ("arithmetic-merged", *files)}) == 3
    assert all(0 < value < 30 for value in bits.values())
    for kind in ("Q8_0", "Q4_0"):
        assert f"arithmetic: {kind}, against the merged weights, " in told.err
    assert "of accuracy on nano_choice [" in told.err


@pytest.mark.llamacpp
@needs_llama_cpp
def test_a_dry_run_says_what_would_be_shipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICK, "--deploy", "q8_0,q4_0", "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "then, of each adapter (1 here), the merged weights and Q8_0, Q4_0 files of them are written to " in told
    assert told.rstrip().endswith("and scored: 3 models more")
    assert not (tmp_path / "out").exists()


def test_an_unknown_kind_is_told_before_anything_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("llama_cpp") is None:
        assert main([*QUICK, "--deploy", "q8_0", "--out", str(tmp_path)]) == 2
        assert "engine 'llamacpp' needs llama-cpp-python" in capsys.readouterr().err
    else:
        assert main([*QUICK, "--deploy", "q8_0,q9_z", "--out", str(tmp_path)]) == 2
        assert "q9_z" in capsys.readouterr().err
    assert not (tmp_path / "adapters").exists()


def test_a_merge_recipe_ships_by_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "nano-merge", "--deploy", "q8_0", "--out", str(tmp_path)]) == 2
    assert "`slmbench export FOLDER --to gguf`" in capsys.readouterr().err
