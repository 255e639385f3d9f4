"""What a plan says of a task: items, seconds and power, from past runs of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.errors import UsageError
from slmbench.statistics.planning import PairSpread, assumed_spread, items_to_detect, power_at
from slmbench.workflow.plan import DecisionPlan, plan_decision
from tests.leaderboard.conftest import make_run
from tests.leaderboard.test_stopped import STOPPED

BASE = [1.0] * 100 + [0.0] * 100


def flipped(items):
    return [1.0 - score if i in items else score for i, score in enumerate(BASE)]


@pytest.fixture
def out(tmp_path):
    """A base that is half right; an adapter that differs on 40 of 200 items, one on 20, and one that is all right."""
    make_run(tmp_path, "base", BASE)
    make_run(tmp_path, "a", flipped({*range(20), *range(100, 120)}), adapter="a")
    make_run(tmp_path, "b", flipped({*range(10), *range(190, 200)}), adapter="b")
    make_run(tmp_path, "far", [1.0] * 200, adapter="far")
    return tmp_path


def planned(out, against="nano", **options):
    plan = DecisionPlan(**{"tasks": ("nano_note",), "against": str(against), "folder": str(out), **options})
    return plan_decision(plan, default_catalog())


def test_items_come_from_past_runs_that_score_near_the_one_that_is_compared_with(out):
    (task,) = planned(out).tasks
    assert (task.past.pairs, task.past.low, task.past.high) == (2, 0.1, 0.2)
    assert task.past.spread.discordance == pytest.approx(0.15)
    spread = PairSpread(task.past.spread.sd, 0.15)
    assert task.needed == items_to_detect(0.03, spread) and not task.enough
    assert task.of_set == items_to_detect(0.03, spread, of=200) <= 200
    assert task.power == power_at(200, 0.03, spread)
    # 5 s for 200 items, as the run says.
    assert task.seconds_per_item == 5 / 200 and task.seconds(task.of_set) == pytest.approx(task.of_set / 40)
    assert (task.tokens_per_item, task.items, task.whole) == (49, 200, True)
    assert planned(out, detect=0.2).tasks[0].enough


def test_without_a_pair_near_it_any_two_runs_of_the_task_serve_and_else_an_assumption(out, tmp_path):
    (task,) = planned(out, "nano+far").tasks
    assert task.past.pairs == 3  # The other three among themselves.
    make_run(tmp_path / "alone", "alone", BASE)
    (task,) = planned(out, tmp_path / "alone", folder=None).tasks
    assert task.past.pairs == 0 and task.past.spread == assumed_spread(0.5, 0.53)


def test_a_runs_neighbours_are_its_past(out):
    (task,) = planned(out, out / "runs" / "base", folder=None).tasks
    assert task.past.pairs == 2


def test_real_scores_are_planned_by_the_spread_of_their_differences(tmp_path):
    rng = np.random.default_rng(0)
    first, second = rng.random(80), rng.random(80)
    make_run(tmp_path, "a", {"rouge1": first.tolist()}, model="a", limit=80)
    make_run(tmp_path, "b", {"rouge1": second.tolist()}, model="b", limit=80)
    (task,) = planned(tmp_path, "a").tasks
    assert task.past.spread.discordance is None and not task.whole
    assert task.past.spread.sd == pytest.approx((second - first).std(ddof=1), rel=1e-6)


def test_the_items_of_a_stopped_run_are_not_all_items_of_its_task(tmp_path):
    make_run(tmp_path, "quick", [1.0] * 12, key="prefix", changes={"stopped": STOPPED})
    (task,) = planned(tmp_path).tasks
    assert task.items == 12 and not task.whole


def test_what_cannot_be_planned_is_said(out):
    with pytest.raises(UsageError, match=r"'gsm8k': nano has no run of it; .*slmbench eval nano --tasks gsm8k"):
        planned(out, tasks=("gsm8k",))
    with pytest.raises(UsageError, match="scores of a range of 1"):
        planned(out, detect=3.0)
    with pytest.raises(UsageError, match="no such folder"):
        planned(out, out / "nothing", folder=None)
    with pytest.raises(UsageError, match=r"4 models.*--in"):
        planned(out, out, folder=None)


def test_the_command_says_it_in_words_and_as_json(out, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    command = ["plan", "nano_note", "--against", "nano", "--in", str(out), "--detect", "0.05"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "to find 0.05 with 80% power" in shown and "differ on 15% of the items" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert main([*command, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    (task,) = content["tasks"]
    assert task["needed"] == planned(out, detect=0.05).tasks[0].needed and task["spread"]["pairs"] == 2
    assert content["seconds"] == pytest.approx(min(task["needed"], 200) * 5 / 200)
