"""How prompts are laid out for generation: contexts that several of them share, and what each has of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define

from slmbench.engines.shared_prefix._trie import PIECE_TOKENS, Node, Segment, build_trie
from slmbench.values import Array

SHARED_TOKENS = 32
"""A shared stretch shorter than this is computed for each prompt: as a context it would cost more in every step."""


@define(eq=False)
class LaidOutPrompt:
    """A distinct prompt. context: segments that it may share; own: those that it doesn't. rows: whose prompt it is."""

    context: tuple[Segment, ...]
    own: tuple[Segment, ...]
    rows: list[int]

    @property
    def shared_tokens(self) -> int:
        """How many tokens its context has."""
        return sum(map(len, self.context))

    @property
    def own_tokens(self) -> int:
        """How many tokens stand after its context, at least one."""
        return sum(map(len, self.own))


def lay_out_prompts(prompts: Sequence[object], most_context_tokens: int, adapter: str = "") -> list[LaidOutPrompt]:
    """The distinct ones of some prompts, neighbours next to each other.

    prompts: int32 arrays, none empty; equal ones are one. No prompt's context has more than `most_context_tokens`.
    adapter: see `Segment`.
    """
    import numpy as np

    root, paths = build_trie(prompts)
    below: dict[Node, int] = {}
    ending: dict[Node, list[int]] = {}
    for row, path in enumerate(paths):
        for node in path:
            below[node] = below.get(node, 0) + 1
        ending.setdefault(path[-1], []).append(row)
    found: list[LaidOutPrompt] = []
    # (node, held segments before it, tokens between those and the node)
    todo: list[tuple[Node, tuple[Segment, ...], Any]] = [(root, (), np.empty(0, dtype=np.int32))]
    while todo:
        node, context, loose = todo.pop()
        loose = np.concatenate([loose, node.tokens])
        rows = ending.get(node, [])
        # A prompt's last token is never held: the first step of its answers starts from it.
        shared = len(loose) - bool(rows)
        held = sum(map(len, context))
        if below[node] > 1 and shared >= SHARED_TOKENS and held + shared <= most_context_tokens:
            context = _pieces(loose[:shared], held, context)
            loose, held = loose[shared:], held + shared
        if rows:
            found.append(LaidOutPrompt(context, _pieces(loose, held, context)[len(context) :], rows))
        todo.extend((child, context, loose) for child in reversed(node.children))
    for prompt in found:
        for segment in (*prompt.context, *prompt.own):
            segment.adapter = adapter
        for segment in prompt.context:
            segment.uses += len(prompt.rows)
    return found


def _pieces(tokens: Array, start: int, context: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """A context with unbranched segments of more tokens behind it."""
    import numpy as np

    for low in range(0, len(tokens), PIECE_TOKENS):
        piece = tokens[low : low + PIECE_TOKENS]
        positions = np.arange(start + low, start + low + len(piece), dtype=np.int32)
        context = (*context, Segment(piece, positions, None, context, []))
    return context
