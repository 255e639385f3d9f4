"""The trie over a run's requests: what several of them begin with is one node of it, and is computed once.

Its nodes are laid out as segments, in the order in which they are computed: a segment is a subtree that is small enough
for one attention mask, or a piece of a node under which much hangs. A piece is the context of all segments below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define, field

from slmbench.values import Array

SUBTREE_TOKENS = 256
"""A subtree up to this size is one segment: its mask is quadratic in it."""
PIECE_TOKENS = 1024
"""A long node is cut into pieces of this size, so that no mask has more rows."""
PACKED_TOKENS = 64
"""Neighbours below one node share a segment up to this size: one by one they would cost more calls than work."""


@define(eq=False)
class Node:
    """A stretch of tokens that all sequences through it share. start: how many tokens stand before it."""

    tokens: Any  # int32, (length,)
    start: int
    children: list[Node] = field(factory=list)
    size: int = 0  # Tokens of the node and of everything below it.

    @property
    def end(self) -> int:
        """How many tokens stand before whatever follows it."""
        return self.start + len(self.tokens)


@define(eq=False)
class Segment:
    """Tokens that are computed in one forward pass, one after another.

    positions: of each token in its sequence. ends: for each token, the index in the segment up to which tokens descend
    from it; None where the segment is one unbranched stretch. context: the segments that stand before it, first ones
    first. spans: (node, from offset, to offset, where in the segment). uses: how many segments have it as context.
    adapter: the sha256 of the one that its keys and values are computed with, "" for the base: they are no other's.
    """

    tokens: Any  # int32, (length,)
    positions: Any  # int32, (length,)
    ends: Any | None  # int32, (length,)
    context: tuple[Segment, ...]
    spans: list[tuple[Node, int, int, int]]
    uses: int = 0
    adapter: str = ""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def before(self) -> int:
        """How many tokens its context has."""
        return sum(map(len, self.context))


def build_trie(sequences: Sequence[Array]) -> tuple[Node, list[list[Node]]]:
    """(root, for each sequence the nodes it goes through, first ones first).

    sequences: int32 arrays; equal ones share all their nodes. The root holds what all begin with, maybe nothing.
    """
    # Big-endian bytes compare as the tokens do.
    keys = [sequence.astype(">i4").tobytes() for sequence in sequences]
    order = sorted(range(len(sequences)), key=keys.__getitem__)
    paths: list[list[Node]] = [[] for _ in sequences]
    nodes: list[Node] = []
    # (from, to) in `order`, how many tokens these sequences are known to share, the node they hang from.
    todo: list[tuple[int, int, int, Node | None]] = [(0, len(order), 0, None)]
    while todo:
        low, high, start, parent = todo.pop()
        first, last = sequences[order[low]], sequences[order[high - 1]]
        end = _common(first, last)  # Of sorted sequences, the first and the last differ earliest.
        node = Node(first[start:end], start)
        nodes.append(node)
        if parent is not None:
            parent.children.append(node)
        for index in order[low:high]:
            paths[index].append(node)
        while low < high and len(sequences[order[low]]) == end:
            low += 1
        children = []
        while low < high:
            token, begin = sequences[order[low]][end], low
            while low < high and sequences[order[low]][end] == token:
                low += 1
            children.append((begin, low, end, node))
        todo.extend(reversed(children))
    for node in reversed(nodes):
        node.size = len(node.tokens) + sum(child.size for child in node.children)
    return nodes[0], paths


def _common(left: Array, right: Array) -> int:
    n = min(len(left), len(right))
    differ = (left[:n] != right[:n]).nonzero()[0]
    return int(differ[0]) if len(differ) else n


def lay_out(root: Node, most_tokens: int = PIECE_TOKENS, adapter: str = "") -> list[Segment]:
    """All of a trie as segments of at most `most_tokens`, each after its context. adapter: see `Segment`."""
    subtree_tokens, piece_tokens = min(SUBTREE_TOKENS, most_tokens), min(PIECE_TOKENS, most_tokens)
    packed_tokens = min(PACKED_TOKENS, most_tokens)
    segments: list[Segment] = []
    todo: list[tuple[list[Node], tuple[Segment, ...]]] = [([root], ())]
    while todo:
        nodes, context = todo.pop()
        if len(nodes) > 1 or nodes[0].size <= subtree_tokens:
            segments.append(_subtree(nodes, context))
            continue
        (node,) = nodes
        for low in range(0, len(node.tokens), piece_tokens):
            piece = _piece(node, low, min(low + piece_tokens, len(node.tokens)), context)
            segments.append(piece)
            context = (*context, piece)
        packed: list[list[Node]] = []
        for child in node.children:
            if packed and sum(one.size for one in packed[-1]) + child.size <= packed_tokens:
                packed[-1].append(child)
            else:
                packed.append([child])
        todo.extend((group, context) for group in reversed(packed))
    for segment in segments:
        segment.adapter = adapter
        for above in segment.context:
            above.uses += 1
    return segments


def _piece(node: Node, low: int, high: int, context: tuple[Segment, ...]) -> Segment:
    import numpy as np

    positions = np.arange(node.start + low, node.start + high, dtype=np.int32)
    return Segment(node.tokens[low:high], positions, None, context, [(node, low, high, 0)])


def _subtree(nodes: list[Node], context: tuple[Segment, ...]) -> Segment:
    """Some nodes with everything below them, depth first."""
    import numpy as np

    tokens, positions, ends = [], [], []
    spans: list[tuple[Node, int, int, int]] = []
    at, todo = 0, list(reversed(nodes))
    while todo:
        node = todo.pop()
        n = len(node.tokens)
        tokens.append(node.tokens)
        positions.append(np.arange(node.start, node.end, dtype=np.int32))
        ends.append(np.full(n, at + node.size, dtype=np.int32))
        spans.append((node, 0, n, at))
        at += n
        todo.extend(reversed(node.children))
    branched = len(spans) > 1
    return Segment(
        np.concatenate(tokens),
        np.concatenate(positions),
        np.concatenate(ends) if branched else None,
        context,
        spans,
    )
