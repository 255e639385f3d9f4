"""All pairs at once: against the same claims pair by pair, and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from slmbench.statistics import _gram
from slmbench.statistics.columns import compare_column
from slmbench.statistics.significance import RankRange, best_entries, detectable_difference, rank_ranges

NAN = float("nan")


def pair_by_pair(scores: np.ndarray, higher: bool, clusters: np.ndarray | None, alpha: float) -> tuple[object, ...]:
    rows = [{str(j): float(score) for j, score in enumerate(row) if score == score} for row in scores]
    labels = None
    if clusters is not None:
        labels = {str(j): None if label < 0 else str(label) for j, label in enumerate(clusters.tolist())}
    return (
        tuple(rank_ranges(rows, higher, labels, alpha)),
        tuple(best_entries(rows, higher, labels, alpha)),
        detectable_difference(rows, labels),
    )


def check(scores: np.ndarray, higher: bool = True, clusters: np.ndarray | None = None, alpha: float = 0.05) -> None:
    found = compare_column(scores, higher_is_better=higher, clusters=clusters, alpha=alpha)
    ranks, best, detectable = pair_by_pair(scores, higher, clusters, alpha)
    assert (found.ranks, found.best) == (ranks, best)
    assert found.detectable == (None if detectable is None else pytest.approx(detectable, rel=1e-6))
    assert found.alone == (sum(found.best) == 1)


def grids(values: list[float]) -> st.SearchStrategy[np.ndarray]:
    """Few items and few values, so that leads, ties, equal rows and missing scores are all common."""
    return st.tuples(st.integers(2, 5), st.integers(1, 14)).flatmap(
        lambda shape: arrays.arrays(np.float64, shape, elements=st.sampled_from(values))
    )


@pytest.mark.parametrize("values", [[0, 1], [0, 1, NAN], [0, 0.25, 1], [0, 1, 0.1, 0.3, NAN], [1e9, 1e9 + 1, NAN]])
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_ranks_and_bests_are_those_of_every_pair_by_itself(values: list[float], data: st.DataObject) -> None:
    scores = data.draw(grids(values))
    check(scores, data.draw(st.booleans()), alpha=data.draw(st.sampled_from([0.05, 0.09])))


@given(grids([0, 1, 0.3]), st.data())
@settings(max_examples=60, deadline=None)
def test_so_are_those_of_clusters(scores: np.ndarray, data: st.DataObject) -> None:
    labels = arrays.arrays(np.int64, scores.shape[1], elements=st.integers(-1, 8))
    check(scores, clusters=data.draw(labels))


@pytest.mark.parametrize("kind", ["binary", "real", "mixed", "near", "missing"])
@pytest.mark.parametrize("chunk", [64, 2**24])
def test_models_of_many_strengths_have_the_ranks_of_every_pair_by_itself(
    kind: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_gram, "CHUNK", chunk)
    rng = np.random.default_rng(4)
    strength = np.linspace(-0.6, 0.6, 12)[:, None]
    latent = rng.normal(size=300) + rng.normal(size=(12, 300)) + strength
    scores = (latent > 0).astype(float) if kind == "binary" else 1 / (1 + np.exp(-latent))
    if kind == "mixed":
        scores[::3] = latent[::3] > 0
    if kind == "near":  # Leads that float64's products would lose: they are read off the items.
        scores[1:] = scores[0] + 1e-9 * latent[1:]
        scores[5] = scores[4]
        scores[7] = scores[6] + 0.25
    if kind == "missing":
        scores[rng.random(scores.shape) < 0.2] = NAN
    check(scores)
    check(scores, higher=False)


@pytest.mark.parametrize(("count", "missing"), [(5, False), (9, False), (9, True), (60, False)])
def test_clusters_have_the_ranks_of_every_pair_by_itself(count: int, missing: bool) -> None:
    rng = np.random.default_rng(count)
    sizes = np.maximum(1, np.round(np.exp(rng.normal(1.0, 1.0, count)))).astype(int)
    clusters = np.repeat(np.arange(count), sizes)
    clusters[sizes[0] : sizes[0] + 2] = -1
    shared = rng.normal(0, 0.3, (6, count))[:, np.repeat(np.arange(count), sizes)]
    scores = shared + rng.normal(size=(6, len(clusters))) + np.linspace(0, 3, 6)[:, None]
    if missing:
        scores[0, 3] = NAN
    check(scores, clusters=clusters)
    check(scores, clusters=np.full(len(clusters), -1))


def test_a_lead_of_five_in_five_is_told_apart_and_four_in_four_is_not() -> None:
    five, four = np.array([[1.0] * 5, [0.0] * 5]), np.array([[1.0] * 4, [0.0] * 4])
    assert compare_column(five, higher_is_better=True).ranks == (RankRange(1, 1), RankRange(2, 2))
    assert compare_column(five, higher_is_better=False).best == (False, True)
    assert compare_column(four, higher_is_better=True).best == (True, True)


def test_no_entry_one_entry_and_equal_entries() -> None:
    assert compare_column(np.zeros((0, 3)), higher_is_better=True).ranks == ()
    one = compare_column(np.zeros((1, 3)), higher_is_better=True)
    assert (one.ranks, one.best, one.alone) == ((RankRange(1, 1),), (True,), True)
    equal = compare_column(np.full((4, 50), 0.3), higher_is_better=True)
    assert (set(equal.ranks), set(equal.best), equal.alone) == ({RankRange(1, 4)}, {True}, False)
    assert equal.detectable is None


def test_entries_without_a_common_item_are_not_told_apart() -> None:
    found = compare_column(np.array([[1.0, 0.5, NAN, NAN], [NAN, NAN, 0.0, 0.1]]), higher_is_better=True)
    assert found.best == (True, True)


def test_what_the_sidecar_holds_in_float32_is_compared_in_float64() -> None:
    rng = np.random.default_rng(0)
    scores = (rng.random((5, 400)) + np.linspace(0, 0.1, 5)[:, None]).astype(np.float32)
    assert compare_column(scores, higher_is_better=True) == compare_column(
        scores.astype(np.float64), higher_is_better=True
    )


def test_clusters_of_another_length_are_an_error() -> None:
    with pytest.raises(ValueError, match="for 3 items"):
        compare_column(np.zeros((2, 3)), higher_is_better=True, clusters=np.zeros(2, dtype=np.int64))


def test_the_best_of_equal_models_is_rarely_left_out_and_far_worse_ones_are() -> None:
    rng = np.random.default_rng(1)
    tables, left_out = 300, 0
    for _ in range(tables):
        easy = rng.normal(size=164)
        found = compare_column((easy + rng.normal(size=(12, 164)) > 0).astype(float), higher_is_better=True)
        left_out += not found.best[0]
    assert left_out / tables <= 0.05 / 2  # One side of a two-sided test, and one of 12 that may be left out.
    far = np.repeat([[1.0], [0.0], [0.0]], 100, axis=1)
    assert compare_column(far, higher_is_better=True).alone
