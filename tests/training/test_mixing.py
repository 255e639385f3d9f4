"""Tasks get their shares at every point of a training, rows are used evenly, and a seed makes one order."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from slmbench.errors import DataError, UsageError
from slmbench.schema import MixingSpec
from slmbench.training._mixing import plan_batches, shares


@frozen
class Row:
    task: str
    length: int


def rows_of(sizes, seed=0, low=5, high=400):
    """Rows of tasks of so many rows each, with lengths drawn from a range."""
    chance = random.Random(seed)
    return [Row(task, chance.randint(low, high)) for task, n in sizes.items() for _ in range(n)]


def plan(rows, **settings):
    defaults = {"mixing": None, "batch": 4, "accumulate": 1, "steps": None, "epochs": 1, "seed": 0}
    return plan_batches(rows, **(defaults | settings))


def order_of(plan):
    return [row for batch in plan.batches for row in batch]


SIZES = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 40), min_size=1)
MIXINGS = st.sampled_from(
    [
        {"by": "proportional"},
        {"by": "equal"},
        {"by": "temperature", "temperature": 2.5},
        {"by": "weights", "weights": {"a": 3, "b": 1, "c": 0.2, "d": 1, "e": 7}},
    ]
)
UNITS = st.sampled_from(["examples", "tokens"])


@given(SIZES, MIXINGS, UNITS, st.integers(0, 3))
def test_no_task_is_ahead_of_its_share_by_more_than_a_row_nor_behind_by_one_of_each_other(sizes, mixing, unit, seed):
    rows = rows_of(sizes, seed)
    spec = MixingSpec(**mixing, unit=unit)
    wanted = shares(rows, spec)
    got, drawn = Counter(), 0
    largest = max(row.length for row in rows) if unit == "tokens" else 1
    for index in order_of(plan(rows, mixing=spec, steps=40, seed=seed)):
        size = rows[index].length if unit == "tokens" else 1
        got[rows[index].task] += size
        drawn += size
        for task, share in wanted.items():
            assert got[task] - share * drawn <= largest + 1e-6
            assert share * drawn - got[task] <= largest * max(1, len(sizes) - 1) + 1e-6


@given(
    SIZES, st.sampled_from([None, {"by": "proportional"}, {"by": "proportional", "unit": "tokens"}]), st.integers(1, 4)
)
def test_every_row_is_seen_once_an_epoch_where_shares_are_the_sizes(sizes, mixing, epochs):
    rows = rows_of(sizes)
    spec = None if mixing is None else MixingSpec(**mixing)
    order = order_of(plan(rows, mixing=spec, batch=3, epochs=epochs))
    for epoch in range(epochs):
        assert sorted(order[epoch * len(rows) : (epoch + 1) * len(rows)]) == list(range(len(rows)))
    assert len(order) == epochs * len(rows)


@given(SIZES, MIXINGS, UNITS, st.sampled_from([None, 800]))
def test_the_rows_of_a_task_are_used_evenly(sizes, mixing, unit, pack_tokens):
    rows = rows_of(sizes)
    spec = MixingSpec(**mixing, unit=unit)
    order = order_of(plan(rows, mixing=spec, epochs=3, pack_tokens=pack_tokens))
    for task in sizes:
        seen = Counter(index for index in order if rows[index].task == task)
        times = [seen[i] for i, row in enumerate(rows) if row.task == task]
        assert max(times) - min(times) <= 1


@given(SIZES, MIXINGS, UNITS, st.sampled_from([None, 800]), st.integers(1, 3), st.integers(1, 12))
def test_a_shorter_plan_is_the_beginning_of_a_longer_one(sizes, mixing, unit, pack_tokens, accumulate, steps):
    rows = rows_of(sizes)
    settings = {"mixing": MixingSpec(**mixing, unit=unit), "accumulate": accumulate, "pack_tokens": pack_tokens}
    short = plan(rows, steps=steps, **settings)
    long = plan(rows, steps=steps + 9, **settings)
    assert short.steps == steps
    assert short.batches == long.batches[: steps * accumulate]
    assert short == plan(rows, steps=steps, **settings)


@given(SIZES, st.integers(1, 5), st.integers(1, 5), st.sampled_from([None, 500]), st.sampled_from([0.3, 1, 2.5]))
def test_every_step_has_all_its_micro_batches_and_each_of_them_a_row(sizes, batch, accumulate, pack_tokens, epochs):
    rows = rows_of(sizes)
    made = plan(rows, batch=batch, accumulate=accumulate, epochs=epochs, pack_tokens=pack_tokens)
    assert len(made.batches) == made.steps * accumulate >= accumulate
    assert all(made.batches)
    due = -(-len(rows) * round(10 * epochs) // 10)
    assert due <= len(order_of(made)) < due + accumulate
    if pack_tokens is None:
        assert max(map(len, made.batches)) <= batch
        assert made.steps == -(-due // (batch * accumulate))


def test_each_pass_and_each_seed_has_an_order_of_its_own():
    rows = rows_of({"a": 30, "b": 3})
    equal = MixingSpec(by="equal")
    order = [i for i in order_of(plan(rows, mixing=equal, epochs=4)) if rows[i].task == "b"]
    passes = [tuple(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert len(set(passes[:6])) > 1
    assert plan(rows).batches != plan(rows, seed=1).batches
    epochs = order_of(plan(rows, epochs=2))
    assert epochs[:33] != epochs[33:]


def test_temperature_shares_are_those_of_the_formula():
    rows = rows_of({"big": 300, "small": 12})
    for unit, sizes in (
        ("examples", {"big": 300, "small": 12}),
        ("tokens", {task: sum(row.length for row in rows if row.task == task) for task in ("big", "small")}),
    ):
        for temperature in (1, 2, 5.5):
            found = shares(rows, MixingSpec(by="temperature", temperature=temperature, unit=unit))
            powers = {task: n ** (1 / temperature) for task, n in sizes.items()}
            for task, power in powers.items():
                assert found[task] == pytest.approx(power / sum(powers.values()), rel=1e-12)
    assert shares(rows, MixingSpec(by="temperature", temperature=1e6))["small"] == pytest.approx(0.5, abs=1e-5)


def test_weights_are_normed_and_a_task_without_one_is_named():
    rows = rows_of({"a": 4, "b": 5})
    assert shares(rows, MixingSpec(by="weights", weights={"a": 3, "b": 1})) == {"a": 0.75, "b": 0.25}
    with pytest.raises(UsageError, match="no share for 'b'"):
        plan(rows, mixing=MixingSpec(by="weights", weights={"a": 3, "c": 1}))
    # An adapter of one task has nothing to weigh, whatever the others of the recipe do.
    assert shares(rows_of({"b": 5}), MixingSpec(by="weights", weights={"a": 3})) == {"b": 1.0}


def test_the_realised_mixture_is_told_by_epoch_and_task():
    rows = rows_of({"a": 60, "b": 20})
    made = plan(rows, mixing=MixingSpec(by="equal", unit="tokens"), epochs=2.5, batch=8)
    told = made.realised(rows)
    order = order_of(made)
    assert told["unit"] == "tokens"
    assert told["wanted"] == {"a": 0.5, "b": 0.5}
    assert len(told["epochs"]) == 3
    for key in ("rows", "tokens"):
        assert sum(epoch[key] for epoch in told["epochs"]) == told[key]
    a = sum(rows[i].length for i in order if rows[i].task == "a")
    assert told["tasks"]["a"] == {
        "rows": sum(rows[i].task == "a" for i in order),
        "tokens": a,
        "share": round(a / sum(rows[i].length for i in order), 6),
    }
    for epoch in told["epochs"]:
        assert epoch["tasks"]["a"]["share"] == pytest.approx(0.5, abs=0.02)
    whole = sum(row.length for row in rows)
    assert told["epochs"][0]["tokens"] == pytest.approx(whole, abs=400)
    part = made.realised(rows, upto_batches=3)
    assert (part["rows"], len(part["epochs"])) == (24, 1)


@given(SIZES, st.integers(400, 3000), st.integers(0, 3))
def test_packed_batches_hold_whole_rows_and_each_row_once_an_epoch(sizes, pack_tokens, seed):
    rows = rows_of(sizes, seed)
    made = plan(rows, pack_tokens=pack_tokens, epochs=2, seed=seed)
    assert Counter(order_of(made)) == dict.fromkeys(range(len(rows)), 2)
    for batch in made.batches:
        assert sum(rows[i].length for i in batch) <= pack_tokens
    cut = made.epoch_rows[0]
    assert sorted(order_of(made)[:cut]) == list(range(len(rows)))


def test_packing_fills_batches_to_a_percent():
    rows = rows_of({"a": 900, "b": 300}, low=20, high=480)
    made = plan(rows, batch=8, pack_tokens=8 * 512)
    assert made.realised(rows)["packing"]["fill"] > 0.99 - 1 / len(made.batches)
    # A fresh batch for every row that does not fit the last one fills less.
    greedy, room = 0, 0
    for index in order_of(plan(rows, batch=8)):
        if rows[index].length > room:
            greedy, room = greedy + 1, 8 * 512
        room -= rows[index].length
    assert len(made.batches) < greedy


def test_a_row_that_is_longer_than_a_batch_is_one_alone():
    rows = [Row("a", 900), Row("a", 100), Row("a", 100)]
    made = plan(rows, pack_tokens=512)
    assert sorted(map(sorted, made.batches)) == [[0], [1, 2]]
    assert made.largest(rows) == (0,)


def test_no_rows_are_an_error():
    with pytest.raises(DataError, match="no training rows"):
        plan([])


@pytest.mark.parametrize("length", [{"steps": 900_000, "batch": 8}, {"steps": None, "epochs": 9_999.0}])
def test_a_plan_that_would_fill_the_memory_is_refused(length):
    with pytest.raises(UsageError, match=r"rows is [\d,]+ rows in all; at most 5,000,000 can be laid out"):
        plan(rows_of({"a": 600}), **length)
