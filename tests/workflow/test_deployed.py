"""What is lost and won against finished runs, in sentences: `slmbench eval --against` without `--until`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slmbench.cli import main
from slmbench.leaderboard import read_runs
from slmbench.statistics.pairs import compare_pair
from slmbench.workflow.compare import ComparedMetric
from slmbench.workflow.deployed import _lost


def _metric(name: str, a: list[float], b: list[float], *, higher: bool) -> ComparedMetric:
    pair = compare_pair(np.array(a), np.array(b), higher_is_better=higher, bounds=(0.0, 9.0))
    return ComparedMetric(name, higher, True, float(np.mean(a)), float(np.mean(b)), pair)


@pytest.mark.parametrize(
    ("b", "higher", "said"),
    [
        ([0.5] * 8, True, "gains 0.250 of m on t ["),
        ([0.0] * 8, True, "loses 0.250 of m on t ["),
        ([0.5] * 8, False, "takes 0.250 more of m on t ["),
        ([0.0] * 8, False, "takes 0.250 less of m on t ["),
        ([0.2001, 0.3] * 4, True, "gains under 0.001 of m on t ["),
        ([0.2, 0.3] * 4, False, "changes nothing of m on t ["),
    ],
)
def test_a_difference_is_told_by_what_is_better(b: list[float], higher: bool, said: str) -> None:
    a = [0.2, 0.3] * 4
    assert _lost(_metric("m", a, b, higher=higher), "t").startswith(said)


def test_each_of_several_runs_stands_for_its_own_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["eval", "nano", "--limit", "4", "--perplexity", "--out", str(tmp_path)]
    assert main([*ask, "--tasks", "nano_choice,nano_note"]) == 0
    folders = {run.task: str(run.folder) for run in read_runs([tmp_path]).runs}
    capsys.readouterr()
    both = ["--against", folders["nano_choice"], "--against", folders["nano_note"]]
    assert main([*ask, "--tasks", "nano_choice,nano_note,nano_arithmetic", "--engine", "hf", *both]) == 0
    told = "".join(capsys.readouterr())
    assert "nano changes nothing of rouge1 on nano_note [" in told and "of target_bits_per_byte on nano_note [" in told
    assert "nano changes nothing of accuracy on nano_choice [" in told
    assert "no finished run of nano_arithmetic there, so nano is not compared" in told
    assert "no finished run of nano_note" not in told and "no finished run of nano_choice" not in told
