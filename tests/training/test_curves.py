"""Per-task losses are means over scored tokens, and a training that was taken up again draws the same curves."""

from __future__ import annotations

import json
import math
import random
import time

import pytest

from slmbench.training._curves import Curves, line

NAMES = ["gsm8k", "ropes", "summaries"]


def feed(curves, steps, *, start=0, log_every=3, seed=0):
    """Runs steps start..steps of the same made-up training, two micro-batches of four rows each."""
    for step in range(start + 1, steps + 1):
        chance = random.Random(f"{seed} {step}")
        for _ in range(2):
            tasks = [chance.randrange(3) for _ in range(4)]
            curves.add(tasks, [chance.uniform(0.1, 90) for _ in tasks], [chance.randint(1, 40) for _ in tasks])
        curves.close_step(step)
        if step % log_every == 0:
            curves.log(step, 1e-4 * step, chance.random(), step * 1.5)
        if step % 4 == 0:
            curves.add_validation(step, {name: (chance.random() * 50, 17) for name in NAMES})
    return curves


def test_losses_are_means_over_the_scored_tokens_since_the_last_point():
    curves = Curves(NAMES)
    curves.add([0, 1], [10.0, 6.0], [5, 2])
    curves.add([0], [2.0], [1])
    curves.close_step(1)
    curves.add([1], [1.0], [2])
    curves.close_step(2)
    point = curves.log(2, 2e-4, 0.5, 1.25)
    assert point["loss"] == 19.0 / 10
    assert point["tasks"] == {
        "gsm8k": {"loss": 12.0 / 6, "tokens": 6, "rows": 2},
        "ropes": {"loss": 7.0 / 4, "tokens": 4, "rows": 2},
    }
    curves.add([2], [3.0], [4])
    curves.close_step(3)
    assert curves.log(3, 1e-4, 0.4, 2.0)["tasks"] == {"summaries": {"loss": 0.75, "tokens": 4, "rows": 1}}


def test_a_step_that_was_not_finished_is_in_no_point():
    curves = Curves(NAMES)
    curves.add([0], [4.0], [2])
    curves.close_step(1)
    curves.add([0], [math.nan], [2])
    assert curves.log(1, 1e-4, 1.0, 1.0)["loss"] == 2.0


@pytest.mark.parametrize("stop", [1, 4, 7, 12, 19])
def test_curves_taken_up_from_a_checkpoint_are_those_of_an_uninterrupted_training(stop):
    whole = feed(Curves(NAMES), 20)
    state = json.loads(json.dumps(feed(Curves(NAMES), stop).state()))
    resumed = Curves(NAMES)
    resumed.restore(state)
    assert feed(resumed, 20, start=stop).state() == whole.state()
    assert resumed.as_json() == whole.as_json()


def test_a_state_stays_what_it_was_while_the_training_goes_on():
    curves = feed(Curves(NAMES), 5)
    state = curves.state()
    kept = json.dumps(state)
    feed(curves, 12, start=5)
    assert json.dumps(state) == kept
    again = Curves(NAMES)
    again.restore(state)
    feed(again, 12, start=5)
    assert json.dumps(state) == kept


def test_a_state_is_not_taken_within_a_step_nor_given_to_other_tasks():
    curves = feed(Curves(NAMES), 2)
    state = curves.state()
    curves.add([0], [1.0], [1])
    with pytest.raises(ValueError, match="between steps"):
        curves.state()
    with pytest.raises(ValueError, match="not of"):
        Curves(["gsm8k"]).restore(state)


def test_the_validation_loss_weighs_tasks_by_their_tokens():
    curves = Curves(NAMES)
    curves.add_validation(50, {"gsm8k": (30.0, 10), "ropes": (1.0, 2)})
    assert curves.as_json()["validation"] == [
        {
            "step": 50,
            "loss": 31.0 / 12,
            "tasks": {"gsm8k": {"loss": 3.0, "tokens": 10}, "ropes": {"loss": 0.5, "tokens": 2}},
        }
    ]


def test_the_worst_task_is_the_one_whose_row_is_no_number():
    curves = Curves(NAMES)
    assert curves.worst_task([0, 1, 2], [900.0, math.inf, 3.0]) == "ropes"
    assert curves.worst_task([2, 1], [math.nan, 1.0]) == "summaries"
    assert curves.worst_task([2, 0], [1.0, 5.0]) == "gsm8k"


def test_what_is_no_number_is_null_in_json():
    curves = Curves(NAMES)
    curves.add([0], [math.inf], [3])
    curves.close_step(1)
    curves.log(1, 1e-4, math.nan, 0.1)
    (point,) = json.loads(json.dumps(curves.as_json(), allow_nan=False))["train"]
    assert (point["loss"], point["grad_norm"], point["tasks"]["gsm8k"]["loss"]) == (None, None, None)


def test_a_line_names_the_tasks_only_where_there_are_several():
    curves = feed(Curves(NAMES), 3)
    (point,) = curves.points
    shown = line(point, 60)
    assert shown.startswith(f"step 3/60  loss {point['loss']:.4f}  ")
    for name, part in point["tasks"].items():
        assert f"{name} {part['loss']:.4f}" in shown
    alone = Curves(["gsm8k"])
    alone.add([0], [2.0], [1])
    alone.close_step(10)
    assert line(alone.log(10, 2e-4, None, 12.4)) == "step 10  loss 2.0000  lr 2.00e-04  12 s"
    validation = alone.add_validation(10, {"gsm8k": (3.0, 2)})
    assert line(validation) == "step 10  validation loss 1.5000"


def test_a_micro_batch_costs_less_than_a_tenth_of_a_millisecond():
    curves = Curves(NAMES)
    rows = ([i % 3 for i in range(32)], [1.5] * 32, [40] * 32)
    best = math.inf
    for _ in range(5):  # The machine may be busy: the best of a few.
        start = time.perf_counter()
        for step in range(200):
            curves.add(*rows)
            curves.close_step(step)
        best = min(best, (time.perf_counter() - start) / 200)
    assert best < 1e-4
