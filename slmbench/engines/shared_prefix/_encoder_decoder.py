"""Scoring by an encoder-decoder: each context is encoded once, whatever number of continuations it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from slmbench.engines.protocol import ScoreRequest
from slmbench.models import core_model
from slmbench.values import Model


def score_pairs(
    model: Model,
    requests: Sequence[ScoreRequest],
    which: Sequence[int],
    rows: int,
    window: int,
    cast: Callable[[], AbstractContextManager[object]],
) -> Iterator[list[tuple[int, float, bool]]]:
    """For each batch, (which, log-likelihood, whether every token is the likeliest) of requests `which`.

    Contexts lose their beginning if they are longer than the encoder's window, as with HFLM. rows: contexts, and then
    continuations, computed at once. cast: the context of the computation.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence
    from transformers.modeling_outputs import BaseModelOutput

    encoder = core_model(model).get_encoder()
    device = core_model(model).get_input_embeddings().weight.device
    by_context: dict[tuple[int, ...], list[int]] = {}
    for at in which:
        by_context.setdefault(tuple(requests[at].context[-window:]), []).append(at)
    order = sorted(by_context, key=len, reverse=True)
    for low in range(0, len(order), rows):
        contexts = order[low : low + rows]
        ids = pad_sequence([torch.tensor(one) for one in contexts], batch_first=True).to(device)
        lengths = torch.tensor([len(one) for one in contexts], device=device)
        mask = (torch.arange(ids.shape[1], device=device)[None] < lengths[:, None]).long()  # (contexts, seq)
        with torch.no_grad(), cast():
            encoded = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        owners = [(line, at) for line, one in enumerate(contexts) for at in by_context[one]]
        done: list[tuple[int, float, bool]] = []
        for first in range(0, len(owners), rows):
            part = owners[first : first + rows]
            lines = torch.tensor([line for line, _ in part], device=device)
            labels = [torch.tensor(requests[at].continuation) for _, at in part]
            with torch.no_grad(), cast():
                logits = model(
                    encoder_outputs=BaseModelOutput(last_hidden_state=encoded[lines]),
                    attention_mask=mask[lines],
                    labels=pad_sequence(labels, batch_first=True).to(device),
                ).logits  # (rows, seq, vocab)
                for row, ((_, at), label) in enumerate(zip(part, labels, strict=True)):
                    wanted = label.to(logits.device)
                    logged = torch.log_softmax(logits[row, : len(label)].float(), dim=-1)  # (seq, vocab)
                    total = logged.gather(1, wanted[:, None]).double().sum()
                    done.append((at, float(total), bool((logged.argmax(dim=-1) == wanted).all())))
        yield done
