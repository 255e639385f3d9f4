"""Metrics that are no mean over items (micro- and macro-averaged F1), from a run's samples to the leaderboard."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from slmbench.leaderboard import build_leaderboard, load_runs
from slmbench.leaderboard._records import RunProblems
from slmbench.metrics import load_scorer
from slmbench.runs import finished_run
from slmbench.statistics.estimate import jackknife
from slmbench.values import Example, Output
from tests.leaderboard.conftest import rewrite

CODES = ["E11.9", "I10", "N18.3", "J44.1", "K21.9"]
SCORER = load_scorer("codes_f1")


def items(seed: int, skill: float, n: int = 60) -> list[tuple[list[str], list[str]]]:
    """(gold, predicted) code lists; each gold code is found with a chance of `skill`."""
    drawn, noise = random.Random(0), random.Random(seed)
    made = []
    for _ in range(n):
        gold = drawn.sample(CODES, drawn.randint(1, 3))
        found = [code for code in gold if noise.random() < skill]
        found += [code for code in CODES if code not in gold and noise.random() < 0.1]
        made.append((gold, found))
    return made


def write(write_run: Any, name: str, made: list[tuple[list[str], list[str]]], spoil: Any = None) -> Path:
    """A run of these items with the metric's own parts; spoil(samples, metrics) changes both."""
    samples, parts = [], []
    for number, (gold, found) in enumerate(made):
        example = Example(f"item-{number:04}", {}, ", ".join(gold), references=(", ".join(gold),))
        part = SCORER.parts(example, Output(text=", ".join(found)))
        parts.append(part)
        samples.append({"scores": SCORER.pool([part]), "parts": {SCORER.name: part}})
    folder = write_run(name, [0.0] * len(made), task="icd", model=name)
    metric = json.loads((folder / "run.json").read_text())["metrics"][0] | {"scorer": SCORER.name, "pooled": True}
    estimates, _ = jackknife(SCORER.pool, parts)
    metrics = [
        metric | {"name": key, "value": one.value, "ci_lo": one.ci_low, "ci_hi": one.ci_high}
        for key, one in estimates.items()
    ]
    if spoil is not None:
        spoil(samples, metrics)
    rewrite(folder, {"metrics": metrics}, samples)
    return folder


def test_a_pooled_value_is_sklearns_over_all_items(write_run: Any, tmp_path: Path) -> None:
    from sklearn.metrics import f1_score
    from sklearn.preprocessing import MultiLabelBinarizer

    made = items(1, 0.7)
    write(write_run, "one", made)
    loaded, _ = load_runs([tmp_path])
    board = build_leaderboard(loaded)
    binary = MultiLabelBinarizer().fit([CODES])
    gold, found = (binary.transform([pair[side] for pair in made]) for side in (0, 1))
    (row,) = board.rows
    for average in ("micro", "macro"):
        estimate = row.cells[f"icd/codes_f1/{average}"].estimate
        assert estimate.value == pytest.approx(f1_score(gold, found, average=average), abs=1e-12)
        assert estimate.method == "jackknife"
        assert estimate.ci_low < estimate.value < estimate.ci_high


def test_models_far_apart_are_told_apart_and_equals_are_tied(write_run: Any, tmp_path: Path) -> None:
    for name, seed, skill in (("good", 1, 0.95), ("bad", 2, 0.3), ("bad-too", 3, 0.3)):
        write(write_run, name, items(seed, skill))
    loaded, _ = load_runs([tmp_path])
    ranks = {row.name: row.cells["icd/codes_f1/micro"] for row in build_leaderboard(loaded).rows}
    assert (ranks["good"].rank_low, ranks["good"].rank_high) == (1, 1)
    assert (ranks["bad"].rank_low, ranks["bad"].rank_high) == (2, 3)


def test_a_recorded_value_that_the_parts_do_not_give_is_refused(write_run: Any, tmp_path: Path) -> None:
    def better(lines: list[Any], metrics: list[Any]) -> None:
        metrics[0] |= {"value": 0.99, "ci_hi": 1.0}

    write(write_run, "one", items(1, 0.7), better)
    with pytest.raises(RunProblems, match=r"'codes_f1/\w+' says 0\.99, its samples' parts give 0\.\d+"):
        load_runs([tmp_path])


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (None, "can't be pooled"),
        ({"E11.9": "many"}, "can't be pooled"),
        ([1, 2], "can't be pooled"),
    ],
)
def test_parts_that_the_metric_did_not_write_are_refused(
    part: Any, message: str, write_run: Any, tmp_path: Path
) -> None:
    def spoil(lines: list[Any], metrics: list[Any]) -> None:
        lines[3]["parts"] = {SCORER.name: part}

    write(write_run, "one", items(1, 0.7), spoil)
    with pytest.raises(RunProblems, match=message):
        load_runs([tmp_path])


def test_an_item_without_parts_is_named(write_run: Any, tmp_path: Path) -> None:
    def spoil(lines: list[Any], metrics: list[Any]) -> None:
        del lines[3]["parts"]

    write(write_run, "one", items(1, 0.7), spoil)
    with pytest.raises(RunProblems, match="item 'item-0003' has no parts for 'codes_f1', which is pooled"):
        load_runs([tmp_path])


def test_a_kept_run_whose_pooled_value_its_parts_do_not_give_is_run_again(
    write_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def better(lines: list[Any], metrics: list[Any]) -> None:
        metrics[0] |= {"value": 0.99, "ci_hi": 1.0}

    pools: Any = {SCORER.name: SCORER.pool}.__getitem__
    assert finished_run(str(write(write_run, "sound", items(1, 0.7))), pools) is not None
    assert finished_run(str(write(write_run, "better", items(1, 0.7), better)), pools) is None
    said = capsys.readouterr().err
    assert "says 0.99, its samples' parts give 0." in said and said.endswith("this task is run again\n")
