from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmbench.nano.splits import row_of, split_of

SPLITS = ("train", "validation", "test")


def draw(rng: random.Random) -> tuple[int, dict[str, int]]:
    n = rng.randrange(10_000)
    return n, {"n": n, "dress": rng.randrange(1000)}


@given(st.sampled_from(SPLITS), st.integers(0, 10_000), st.integers(-5, 5))
def test_a_row_is_made_by_task_split_index_and_seed_alone(split: str, index: int, seed: int) -> None:
    assert row_of("t", split, index, seed, draw) == row_of("t", split, index, seed, draw)


def test_other_tasks_seeds_and_indices_draw_other_rows() -> None:
    rows = [row_of(task, "train", index, seed, draw) for task in "ab" for index in range(20) for seed in range(5)]
    assert len({tuple(row.values()) for row in rows}) > 190


def test_no_essence_is_in_two_splits() -> None:
    seen = {split: {row_of("t", split, i, seed, draw)["n"] for i in range(2000) for seed in (0, 1)} for split in SPLITS}
    assert all(split_of(n) == split for split, numbers in seen.items() for n in numbers)
    assert (
        not seen["train"] & seen["test"]
        and not seen["train"] & seen["validation"]
        and not seen["test"] & seen["validation"]
    )


def test_a_tenth_each_is_for_test_and_validation() -> None:
    counts = {split: sum(split_of((n, "x")) == split for n in range(20_000)) / 20_000 for split in SPLITS}
    assert counts["test"] == pytest.approx(0.1, abs=0.01)
    assert counts["validation"] == pytest.approx(0.1, abs=0.01)
    assert sum(counts.values()) == 1


def test_the_split_of_an_essence_never_changes() -> None:
    # Written down: a change would mix what was trained on with what is tested.
    in_test = [n for n in range(100) if split_of(("sum", (n, n + 1))) == "test"]
    in_validation = [n for n in range(100) if split_of(("sum", (n, n + 1))) == "validation"]
    assert in_test == [22, 29, 35, 46, 47, 52, 54, 57, 77, 81, 83, 91]
    assert in_validation == [7, 14, 49, 68, 89, 94]


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown split 'dev'; generated splits are train, validation and test"):
        row_of("t", "dev", 0, 0, draw)
