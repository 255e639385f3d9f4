"""Log-likelihoods over a trie: each token computed once, the head on scored positions alone, in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from slmbench.console import Stage
from slmbench.engines.shared_prefix._head import Head
from slmbench.engines.shared_prefix._passes import PrefixStore, hidden_states, passes
from slmbench.engines.shared_prefix._trie import Node, build_trie, lay_out
from slmbench.models import adapter_of
from slmbench.values import Array, Model


def score(
    core: Model,
    pairs: Sequence[tuple[Array, Array]],
    store: PrefixStore,
    most_tokens: int,
    head: Model,
    told: Stage,
) -> Iterator[list[tuple[int, float, bool]]]:
    """For each forward pass, (index of a pair, its log-likelihood, whether every token is the likeliest) of those done.

    pairs: (input, continuation), int32 arrays; the input ends one token before the continuation's end. head: the
    module that makes logits (rows, vocab) of hidden states (rows, width). told: of each token that is computed.
    """
    import numpy as np
    import torch

    head = Head(head, most_tokens)
    root, paths = build_trie([tokens for tokens, _ in pairs])
    # node -> what is scored in it: (pair, from depth, to depth)
    marks: dict[Node, list[tuple[int, int, int]]] = {}
    missing = np.zeros(len(pairs), dtype=np.int64)
    for index, (tokens, continuation) in enumerate(pairs):
        missing[index] = len(continuation)
        first = len(tokens) - len(continuation)
        for node in reversed(paths[index]):
            marks.setdefault(node, []).append((index, max(first, node.start), node.end))
            if node.start <= first:
                break
    del paths
    total = np.zeros(len(pairs), dtype=np.float64)
    greedy = np.ones(len(pairs), dtype=bool)
    segments = lay_out(root, most_tokens, adapter_of(core))
    told.expect(sum(map(len, segments)))
    for one, new in passes(segments, store, most_tokens):
        with torch.no_grad():
            hidden = hidden_states(core, one)  # (tokens, width)
        told.advance(sum(map(len, new)))
        at, begin = 0, {}
        for segment in one.segments:
            begin[segment] = at
            at += len(segment)
        rows, targets, owners = [], [], []
        for segment in new:
            for node, low, high, where in segment.spans:
                for index, start, end in marks.get(node, ()):
                    start, end = max(start, node.start + low), min(end, node.start + high)
                    if start >= end:
                        continue
                    tokens, continuation = pairs[index]
                    first = len(tokens) - len(continuation)
                    offset = begin[segment] + where - node.start - low
                    rows.append(np.arange(start + offset, end + offset))
                    targets.append(continuation[start - first : end - first])
                    owners.append(np.full(end - start, index))
        if not rows:
            continue
        row, target, owner = (np.concatenate(part) for part in (rows, targets, owners))
        order = np.argsort(row, kind="stable")
        row, target, owner = row[order], target[order], owner[order]
        unique, which = np.unique(row, return_inverse=True)
        for low in range(0, len(unique), head.most_rows):
            chunk = unique[low : low + head.most_rows]
            here = slice(*np.searchsorted(which, (low, low + len(chunk))))
            with torch.no_grad():
                states = hidden[torch.from_numpy(chunk).to(hidden.device)]
                line = torch.from_numpy(which[here] - low).to(hidden.device)
                wanted = torch.from_numpy(target[here].astype(np.int64)).to(hidden.device)
                found, hit = head.log_probabilities(states, line, wanted)
            np.add.at(total, owner[here], found)
            np.logical_and.at(greedy, owner[here], hit)
            np.subtract.at(missing, owner[here], 1)
        done = [int(index) for index in np.unique(owner) if missing[index] == 0]
        yield [(index, float(total[index]), bool(greedy[index])) for index in done]
