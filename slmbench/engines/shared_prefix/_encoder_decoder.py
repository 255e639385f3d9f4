"""Scoring by an encoder-decoder: each context is encoded once, whatever number of continuations it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


def score_pairs(
    engine: Any, requests: Sequence[Any], which: Sequence[int], rows: int
) -> Iterator[list[tuple[int, tuple[float, bool]]]]:
    """For each batch, (which, (log-likelihood, whether every token is the likeliest)) of requests `which`.

    requests: (texts, context ids, continuation ids). Contexts lose their beginning where they are longer than the
    encoder's window, as with HFLM. rows: contexts, and then continuations, computed at once.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence
    from transformers.modeling_outputs import BaseModelOutput

    by_context: dict[tuple[int, ...], list[int]] = {}
    for at in which:
        by_context.setdefault(tuple(requests[at][1][-engine.max_length :]), []).append(at)
    order = sorted(by_context, key=len, reverse=True)
    for low in range(0, len(order), rows):
        contexts = order[low : low + rows]
        ids = pad_sequence([torch.tensor(one) for one in contexts], batch_first=True).to(engine.device)
        lengths = torch.tensor([len(one) for one in contexts], device=engine.device)
        mask = (torch.arange(ids.shape[1], device=engine.device)[None] < lengths[:, None]).long()  # (contexts, seq)
        with torch.no_grad(), engine.cast():
            encoded = engine.core.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        owners = [(line, at) for line, one in enumerate(contexts) for at in by_context[one]]
        done: list[tuple[int, tuple[float, bool]]] = []
        for first in range(0, len(owners), rows):
            part = owners[first : first + rows]
            lines = torch.tensor([line for line, _ in part], device=engine.device)
            labels = [torch.tensor(requests[at][2]) for _, at in part]
            with torch.no_grad(), engine.cast():
                logits = engine.model(
                    encoder_outputs=BaseModelOutput(last_hidden_state=encoded[lines]),
                    attention_mask=mask[lines],
                    labels=pad_sequence(labels, batch_first=True).to(engine.device),
                ).logits  # (rows, seq, vocab)
                for row, ((_, at), label) in enumerate(zip(part, labels, strict=True)):
                    wanted = label.to(logits.device)
                    logged = torch.log_softmax(logits[row, : len(label)].float(), dim=-1)  # (seq, vocab)
                    total = logged.gather(1, wanted[:, None]).double().sum()
                    done.append((at, (float(total), bool((logged.argmax(dim=-1) == wanted).all()))))
        yield done
