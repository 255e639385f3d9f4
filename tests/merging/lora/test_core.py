"""Low-rank changes in their core: as exact as the whole matrices in float64."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from slmbench.merging.lora import Factors, core_of, stacked, truncate, weight_change


def _factors(seed, m, n, ranks, scale=1.0):
    import torch

    torch.manual_seed(seed)
    return [Factors(torch.randn(r, n) * scale, torch.randn(m, r), 0.5 + i) for i, r in enumerate(ranks)]


def _dense(factors, weights):
    return sum(w * f.scaling * f.b.double() @ f.a.double() for w, f in zip(weights, factors, strict=True))


@profile(max_examples=40)
@given(
    m=st.integers(1, 30),
    n=st.integers(1, 30),
    ranks=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    rank=st.integers(1, 12),
    scale=st.sampled_from([1.0, 1e-4, 1e-7]),
    seed=st.integers(0, 9),
)
def test_a_cut_change_is_the_nearest_of_its_rank_and_says_what_is_lost(m, n, ranks, rank, scale, seed):
    import torch

    factors = _factors(seed, m, n, ranks, scale)
    weights = [(-1.0) ** i * (1 + i) for i in range(len(ranks))]
    dense = _dense(factors, weights)
    values = torch.linalg.svdvals(dense)
    (cut, said) = truncate({"w": stacked(factors, weights)}, rank)["w"]
    size = float(values.norm())
    lost = float(values[rank:].norm())
    assert cut.rank <= rank
    got = _dense([cut], [1.0])
    assert float((got - dense).norm()) == pytest.approx(lost, abs=1e-6 * size)
    assert said.error == pytest.approx(lost / size, abs=1e-6)


@profile(max_examples=40)
@given(
    m=st.integers(1, 30),
    n=st.integers(1, 30),
    ranks=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    seed=st.integers(0, 9),
)
def test_full_rank_and_cores_lose_nothing(m, n, ranks, seed):
    factors = _factors(seed, m, n, ranks)
    dense = _dense(factors, [1.0] * len(ranks))
    cut, said = truncate({"w": stacked(factors, [1.0] * len(ranks))}, "full")["w"]
    assert float((_dense([cut], [1.0]) - dense).norm()) <= 1e-6 * float(dense.norm())
    assert said.error == 0 and cut.rank == said.full <= min(m, n, sum(ranks))
    left, right, cores = core_of(factors)
    for one, core in zip(factors, cores, strict=True):
        whole = _dense([one], [1.0])
        assert float((left @ core @ right.mT - whole).norm()) <= 1e-12 * float(whole.norm())


def test_changes_that_cancel_leave_nothing():
    one = _factors(0, 20, 30, [4])[0]
    cut, said = truncate({"w": stacked([one, one], [1.0, -1.0])}, 8)["w"]
    assert said.full == 0 and said.error == 0
    assert float(weight_change(cut).abs().max()) == 0


def test_changes_of_many_shapes_come_back_by_their_names():
    import torch

    changes = {f"{m}x{n}": stacked(_factors(m, m, n, [3, 2]), [0.5, 0.5]) for m in (7, 20) for n in (9, 20)}
    for name, (cut, _) in truncate(changes, "full").items():
        torch.testing.assert_close(weight_change(cut), weight_change(changes[name]), rtol=0, atol=1e-5)
