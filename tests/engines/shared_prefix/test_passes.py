"""Which segments are computed together, and whose keys and values are held for later ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from slmbench.engines.shared_prefix import _trie
from slmbench.engines.shared_prefix._passes import PrefixStore, passes
from slmbench.engines.shared_prefix._trie import Segment, build_trie, lay_out


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SUBTREE_TOKENS", 8), ("PIECE_TOKENS", 5), ("PACKED_TOKENS", 4)):
        monkeypatch.setattr(_trie, name, value)


def segments(seed: int) -> list[Segment]:
    rng = np.random.default_rng(seed)
    trunks = [rng.integers(0, 50, 17) for _ in range(3)]
    rows = [np.concatenate([trunks[i % 3], rng.integers(0, 3, rng.integers(1, 15))]) for i in range(40)]
    return lay_out(build_trie([row.astype(np.int32) for row in rows])[0])


def run(given: list[Segment], store: PrefixStore, most_tokens: int) -> list[tuple[list[Segment], list[Segment]]]:
    """(all segments, new segments) of each pass; asserts that each pass has what it needs."""
    found = []
    for one, new in passes(given, store, most_tokens):
        there = set(one.held)
        for segment in one.segments:
            assert all(above in there for above in segment.context)
            there.add(segment)
        for segment in one.keep:
            one.held[segment] = []
        found.append((list(one.segments), new))
        assert sum(map(len, store.held)) <= store.most_tokens
    assert sum(map(len, store.held)) <= store.most_tokens
    return found


@pytest.mark.parametrize("most_tokens", [1, 12, 40, 100_000])
@pytest.mark.parametrize("budget", [0, 3, 9, 20, 35, 100_000])
def test_whatever_the_budget_each_segment_is_new_once_and_no_more_is_held(budget: int, most_tokens: int) -> None:
    given, store = segments(0), PrefixStore(budget)
    found = run(given, store, most_tokens)
    assert [segment for _, new in found for segment in new] == given
    assert store.peak_tokens <= budget
    total = sum(len(segment) for chosen, _ in found for segment in chosen)
    assert store.computed_again == total - sum(map(len, given))


def test_with_room_for_all_nothing_is_computed_again() -> None:
    store = PrefixStore(100_000)
    run(segments(1), store, 20)
    assert store.computed_again == 0
    assert store.peak_tokens > 0
    assert not any(store.held.values())


def test_without_room_contexts_are_computed_again_in_every_pass_that_needs_them() -> None:
    given, store = segments(1), PrefixStore(0)
    run(given, store, 20)
    assert store.computed_again > 0
    assert store.peak_tokens == 0
    cramped = PrefixStore(6)
    run(given, cramped, 20)
    assert 0 < cramped.computed_again < store.computed_again


def test_a_pass_has_no_more_tokens_than_allowed_unless_one_segment_needs_them() -> None:
    for chosen, new in run(segments(2), PrefixStore(10), 25):
        assert sum(map(len, chosen)) <= 25 or len(new) == 1


def piece(length: int, context: tuple[Segment, ...] = ()) -> Segment:
    start = sum(map(len, context))
    return Segment(np.arange(length), np.arange(start, start + length), None, context, [])


def test_those_go_first_that_the_fewest_segments_wait_for() -> None:
    few, many, some = piece(4), piece(4), piece(4)
    store = PrefixStore(8)
    waiting: dict[Any, int] = {few: 1, many: 9, some: 3}
    assert store.make_room([few, many], waiting) == {few, many}
    store.held = {few: [], many: []}
    assert store.make_room([some], waiting) == {some}
    assert set(store.held) == {many}


def test_what_nobody_waits_for_is_not_held() -> None:
    done, needed = piece(2), piece(2)
    store = PrefixStore(100)
    store.held = {done: []}
    assert store.make_room([needed], {done: 0, needed: 1}) == {needed}
    assert not store.held
    assert store.make_room([needed], {needed: 0}) == frozenset()


def test_of_equals_what_stands_first_is_held() -> None:
    first = piece(4)
    second = piece(4, (first,))
    assert PrefixStore(4).make_room([second, first], {first: 2, second: 2}) == {first}
