"""A sweep's points one after another: what fails is written down, the others go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slmbench.errors import SlmbenchError, UsageError
from slmbench.files import only_writer
from slmbench.sweeps import run_sweep


@pytest.fixture
def sweep(tmp_path, nano_points, made_run, trained_folder, work):
    """sweep(over, fail={point: error}) -> outcomes of a training that costs as its rank says."""

    def run(*over, seeds=(), fail=None):
        _, points = nano_points(*over, seeds=seeds)

        def train(point, place):
            error = (fail or {}).get(point.name)
            if error is not None:
                raise error
            return [trained_folder(place, parameters=point.recipe.spec.lora.rank * 100)]

        def evaluate(point, folders):
            value = point.recipe.spec.lora.rank / 100
            return [made_run(), *(made_run(scores={"acc": value}) for _ in folders)]

        return run_sweep(points, work(train, evaluate), str(tmp_path))

    return run


def test_each_point_has_its_folder_its_costs_and_its_runs(sweep, tmp_path):
    outcomes = sweep("rank=4,8")
    assert [outcome.point.name for outcome in outcomes] == ["rank-4", "rank-8"]
    (part,) = outcomes[1].trained
    assert Path(part.folder) == tmp_path / "points" / "rank-8" / "adapters" / "sums"
    assert (part.parameters, part.bytes, part.train_s, part.memory_bytes) == (800, 4096, 2.0, 10**9)
    assert part.runs[0].record["metrics"][0]["value"] == 0.08
    written = json.loads((tmp_path / "points" / "rank-8" / "point.json").read_text())
    assert (written["status"], written["changed"], written["reason"]) == ("ok", {"lora.rank": 8}, None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            UsageError("lora.rank is 8, but q_proj has 4 rows;\n  lower it"),
            "lora.rank is 8, but q_proj has 4 rows; lower it",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"), "RuntimeError: CUDA out of memory"),
        (MemoryError(), "MemoryError: out of memory"),
        (KeyError("loss"), "KeyError: 'loss'"),
    ],
)
def test_a_point_that_fails_is_written_down_and_the_others_go_on(sweep, tmp_path, error, reason):
    outcomes = sweep("rank=4,8,16", fail={"rank-8": error})
    assert [outcome.reason is None for outcome in outcomes] == [True, False, True]
    assert outcomes[1].reason.startswith(reason)
    written = json.loads((tmp_path / "points" / "rank-8" / "point.json").read_text())
    assert (written["status"], written["reason"]) == ("failed", outcomes[1].reason)
    assert bool(written["traceback"]) is not isinstance(error, SlmbenchError)


def test_an_interrupt_ends_the_sweep(sweep):
    with pytest.raises(KeyboardInterrupt):
        sweep("rank=4,8", fail={"rank-8": KeyboardInterrupt()})


def test_two_sweeps_into_one_folder_are_refused(sweep, tmp_path):
    with only_writer(str(tmp_path / "sweep" / ".lock")), pytest.raises(SlmbenchError, match="another process"):
        sweep("rank=4")


def test_a_training_that_left_no_record_is_a_failed_point(tmp_path, nano_points, made_run, work):
    _, points = nano_points("rank=4")
    empty = tmp_path / "empty"
    empty.mkdir()
    made = work(lambda *_: [str(empty)], lambda *_: [made_run(), made_run()])
    (outcome,) = run_sweep(points, made, str(tmp_path))
    assert "has no training.json" in outcome.reason
