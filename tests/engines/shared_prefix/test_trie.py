"""The trie over sequences, and the segments that it is laid out as."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from slmbench.engines.shared_prefix import _prompts, _trie
from slmbench.engines.shared_prefix._prompts import lay_out_prompts
from slmbench.engines.shared_prefix._trie import Segment, build_trie, lay_out

SEEDS = range(12)


def sequences(seed: int) -> list[Any]:
    """Some random ones over three tokens, with duplicates, prefixes of each other, long shared starts, an empty one."""
    rng = np.random.default_rng(seed)
    trunk = rng.integers(0, 3, 30)
    found = [rng.integers(0, 3, rng.integers(1, 9)) for _ in range(12)]
    found += [np.concatenate([trunk, rng.integers(0, 3, rng.integers(0, 25))]) for _ in range(12)]
    found += [found[i].copy() for i in (0, 3, 14)]
    found += [found[13][:n] for n in (1, 5, 29, 30)]
    found += [np.empty(0)]
    return [found[i].astype(np.int32) for i in rng.permutation(len(found))]


def nodes_below(root: Any) -> list[Any]:
    found, todo = [], [root]
    while todo:
        found.append(todo.pop())
        todo.extend(found[-1].children)
    return found


def whole(segment: Segment, at: int) -> list[int]:
    """The sequence that a segment's token ends, read from its context and from what it descends from."""
    before = [int(token) for above in segment.context for token in above.tokens]
    ends = segment.ends if segment.ends is not None else np.full(len(segment), len(segment))
    return before + [int(segment.tokens[i]) for i in range(at + 1) if at < ends[i]]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_sequence_is_the_tokens_of_the_nodes_it_goes_through(seed: int) -> None:
    given = sequences(seed)
    root, paths = build_trie(given)
    for sequence, path in zip(given, paths, strict=True):
        assert np.concatenate([node.tokens for node in path]).tolist() == sequence.tolist()
        assert path[0] is root
        assert all(child in node.children and child.start == node.end for node, child in pairwise(path))
    assert {id(node) for path in paths for node in path} == {id(node) for node in nodes_below(root)}


@pytest.mark.parametrize("seed", SEEDS)
def test_no_two_branches_of_a_node_begin_with_the_same_token(seed: int) -> None:
    root, _ = build_trie(sequences(seed))
    for node in nodes_below(root):
        firsts = [int(child.tokens[0]) for child in node.children]
        assert len(set(firsts)) == len(firsts)
        assert node.size == len(node.tokens) + sum(child.size for child in node.children)


def test_equal_sequences_share_all_their_nodes() -> None:
    tokens = np.arange(9, dtype=np.int32)
    root, paths = build_trie([tokens, tokens[:4], tokens.copy()])
    assert [list(map(id, path)) for path in (paths[0], paths[2])] == [list(map(id, paths[0]))] * 2
    assert (len(root.tokens), root.size) == (4, 9)


def test_one_empty_sequence_is_a_trie_of_no_token() -> None:
    root, paths = build_trie([np.empty(0, dtype=np.int32)])
    assert (len(root.tokens), root.children, paths) == (0, [], [[root]])


@pytest.mark.parametrize(("subtree", "piece", "packed"), [(256, 1024, 64), (10, 4, 3), (5, 7, 12), (1, 1, 1)])
@pytest.mark.parametrize("seed", SEEDS)
def test_segments_hold_each_token_once_and_all_that_stands_before_it(
    seed: int, subtree: int, piece: int, packed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("SUBTREE_TOKENS", subtree), ("PIECE_TOKENS", piece), ("PACKED_TOKENS", packed)):
        monkeypatch.setattr(_trie, name, value)
    given = sequences(seed)
    root, _ = build_trie(given)
    segments = lay_out(root)
    covered: Counter[tuple[int, int]] = Counter()
    for segment in segments:
        for node, low, high, where in segment.spans:
            covered.update((id(node), i) for i in range(low, high))
            assert segment.tokens[where : where + high - low].tolist() == node.tokens[low:high].tolist()
    assert covered == {(id(node), i): 1 for node in nodes_below(root) for i in range(len(node.tokens))}
    # Each token's way from the root is the beginning of some sequence, and all beginnings are there once.
    beginnings = {tuple(sequence[:n].tolist()) for sequence in given for n in range(1, len(sequence) + 1)}
    ways = [tuple(whole(segment, at)) for segment in segments for at in range(len(segment))]
    assert sorted(ways) == sorted(beginnings)
    for segment in segments:
        for at in range(len(segment)):
            assert segment.positions[at] == len(whole(segment, at)) - 1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_segment_comes_after_its_context_and_is_counted_by_it(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_trie, "SUBTREE_TOKENS", 8)
    monkeypatch.setattr(_trie, "PIECE_TOKENS", 5)
    segments = lay_out(build_trie(sequences(seed))[0])
    place = {segment: at for at, segment in enumerate(segments)}
    assert any(segment.context for segment in segments)
    for at, segment in enumerate(segments):
        assert all(place[above] < at for above in segment.context)
        # A piece's context is what stands before it, and no more.
        for i, above in enumerate(segment.context):
            assert above.context == segment.context[:i]
    uses = Counter(above for segment in segments for above in segment.context)
    assert [segment.uses for segment in segments] == [uses[segment] for segment in segments]


@pytest.mark.parametrize("seed", SEEDS)
def test_no_mask_has_more_rows_than_the_bounds_allow(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SUBTREE_TOKENS", 9), ("PIECE_TOKENS", 6), ("PACKED_TOKENS", 4)):
        monkeypatch.setattr(_trie, name, value)
    segments = lay_out(build_trie(sequences(seed))[0])
    branched = [segment for segment in segments if len(segment.spans) > 1]
    pieces = [segment for segment in segments if segment.uses]
    assert branched and pieces
    assert all(len(segment) <= 9 for segment in branched)
    assert all(len(segment) <= 6 and segment.ends is None for segment in pieces)


def test_a_long_node_is_cut_into_pieces_each_the_context_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_trie, "SUBTREE_TOKENS", 8)
    monkeypatch.setattr(_trie, "PIECE_TOKENS", 10)
    tokens = np.arange(25, dtype=np.int32)
    segments = lay_out(build_trie([tokens])[0])
    assert [segment.tokens.tolist() for segment in segments] == [list(range(10)), list(range(10, 20)), [*range(20, 25)]]
    assert [segment.before for segment in segments] == [0, 10, 20]


@pytest.mark.parametrize("most", [0, 10, 45, 10_000])
@pytest.mark.parametrize("seed", SEEDS)
def test_prompts_are_laid_out_whole_each_once_with_a_last_token_of_its_own(
    seed: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_prompts, "SHARED_TOKENS", 4)
    monkeypatch.setattr(_prompts, "PIECE_TOKENS", 7)
    given = [sequence for sequence in sequences(seed) if len(sequence)]
    prompts = lay_out_prompts(given, most)
    assert sorted(row for prompt in prompts for row in prompt.rows) == list(range(len(given)))
    for prompt in prompts:
        read = np.concatenate([segment.tokens for segment in (*prompt.context, *prompt.own)]).tolist()
        assert all(given[row].tolist() == read for row in prompt.rows)
        at = np.concatenate([segment.positions for segment in (*prompt.context, *prompt.own)]).tolist()
        assert at == list(range(len(read)))
        assert prompt.own_tokens >= 1
        assert prompt.shared_tokens <= most
    texts = [tuple(given[prompt.rows[0]].tolist()) for prompt in prompts]
    assert len(set(texts)) == len(texts)
    uses = Counter(segment for prompt in prompts for segment in prompt.context for _ in prompt.rows)
    assert all(segment.uses == n for segment, n in uses.items())
    assert bool(uses) == (most >= 4)
