"""Which segments are computed in which forward pass, and whose keys and values are held for later ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from slmbench.engines.shared_prefix._attention import Pass, forward_mask, under_way
from slmbench.engines.shared_prefix._trie import Segment
from slmbench.errors import SlmbenchError
from slmbench.models import adapter_of
from slmbench.values import Model, Tensor


class PrefixStore:
    """Keys and values of segments that later segments have as context, at most so many tokens of them.

    Where there are too many, those go first that the fewest segments still wait for; they are computed again when
    their turn comes.
    """

    def __init__(self, most_tokens: int) -> None:
        self.most_tokens = most_tokens
        self.held: dict[Segment, list[tuple[Any, Any]]] = {}
        self.peak_tokens = 0
        self.computed_again = 0

    def make_room(self, candidates: Sequence[Segment], waiting: dict[Segment, int]) -> frozenset[Segment]:
        """Which of these segments, about to be computed, are to be held; drops what has to give way for them."""
        for segment in [one for one in self.held if waiting[one] == 0]:
            del self.held[segment]
        # First ones first among equals: nothing is of use without what stands before it.
        wanted = sorted({*self.held, *candidates}, key=lambda one: (-waiting[one], one.before))
        kept: set[Segment] = set()
        tokens = 0
        for segment in wanted:
            if waiting[segment] and tokens + len(segment) <= self.most_tokens:
                kept.add(segment)
                tokens += len(segment)
        for segment in [one for one in self.held if one not in kept]:
            del self.held[segment]
        self.peak_tokens = max(self.peak_tokens, tokens)
        return frozenset(one for one in candidates if one in kept)


def passes(segments: Sequence[Segment], store: PrefixStore, most_tokens: int) -> Iterator[tuple[Pass, list[Segment]]]:
    """(a forward pass, those of its segments that are computed for the first time), until all are.

    A pass has about `most_tokens` tokens, more where one segment and what it needs have more. The caller computes each
    before it asks for the next.
    """
    waiting = {segment: segment.uses for segment in segments}
    done = 0
    while done < len(segments):
        chosen: dict[Segment, None] = {}
        new: list[Segment] = []
        tokens = 0
        while done < len(segments):
            segment = segments[done]
            missing = [s for s in (*segment.context, segment) if s not in store.held and s not in chosen]
            cost = sum(map(len, missing))
            if chosen and tokens + cost > most_tokens:
                break
            store.computed_again += cost - len(segment)
            chosen.update(dict.fromkeys(missing))
            tokens += cost
            new.append(segment)
            done += 1
        for segment in new:
            for above in segment.context:
                waiting[above] -= 1
        # What the pass itself needs stays until it is over, whatever the bound says of afterwards.
        needed = {above: store.held[above] for segment in chosen for above in segment.context if above in store.held}
        keep = store.make_room(list(chosen), waiting)
        one = Pass(list(chosen), {**needed}, keep)
        yield one, new
        for segment in keep:
            store.held[segment] = one.held[segment]


def hidden_states(core: Model, one: Pass, first: Sequence[int] = (), first_positions: Sequence[int] = ()) -> Tensor:
    """The last hidden state of each token of a pass, (tokens, width); tokens of `first` stand before the segments'.

    Raises SlmbenchError if another adapter is on the model than keys and values are held of.
    """
    import numpy as np
    import torch

    _check_adapter(one, adapter_of(core))
    device = core.get_input_embeddings().weight.device
    ids = np.concatenate([np.asarray(first, dtype=np.int64), *(s.tokens.astype(np.int64) for s in one.segments)])
    at = np.concatenate(
        [np.asarray(first_positions, dtype=np.int64), *(s.positions.astype(np.int64) for s in one.segments)]
    )
    with under_way(one):
        found = core.base_model(
            input_ids=torch.from_numpy(ids)[None].to(device),
            attention_mask=forward_mask(),
            position_ids=torch.from_numpy(at)[None].to(device),
            use_cache=False,
        )
    return found.last_hidden_state[0]


def _check_adapter(one: Pass, adapter: str) -> None:
    others = {part.adapter for part in (*one.segments, *one.held) if part.adapter != adapter}
    others |= {one.rows.adapter} - {adapter} if one.rows is not None else set()
    if others:
        names = " and ".join(f"adapter {sha[:12]}" if sha else "the base alone" for sha in (min(others), adapter))
        raise SlmbenchError(
            f"the adapter was exchanged while requests were under way: their prompts' keys and values are of {names}; "
            "swap before a call or after its last answer"
        )
