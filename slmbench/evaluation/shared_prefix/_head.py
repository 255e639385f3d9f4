"""Log-probabilities of wanted tokens, from hidden states: the vocabulary piece by piece, in memory that stays small."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

HEAD_BYTES = 100_000_000
"""Of the logits of all the vocabulary, where they are made at a time."""
PIECE_BYTES = 16_000_000
"""Of the logits that are made at a time on a CPU, where they stay in its cache until they are summed."""


class Head:
    """A model's head. A plain product in float32 on a CPU is made piece by piece, always into the same memory: fresh
    memory has to be made by the system page by page, which takes a fifth of the time.
    """

    def __init__(self, head: Any, most_tokens: int) -> None:
        """head: the module that makes logits (rows, vocab) of hidden states (rows, width)."""
        import torch

        self.head = head
        weight = getattr(head, "weight", None)
        hooked = getattr(head, "_forward_hooks", None) or getattr(head, "_forward_pre_hooks", None)
        plain = type(head) is torch.nn.Linear and head.bias is None and not hooked
        plain = plain and weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if plain and weight.device.type == "cpu":
            self.most_rows = most_tokens
            self.buffer = weight.new_empty(max(PIECE_BYTES // 4, most_tokens))
        else:
            rows = most_tokens if weight is None else HEAD_BYTES // (4 * weight.shape[0])
            self.most_rows = max(1, min(rows, most_tokens))
            self.buffer = None

    def log_probabilities(self, hidden: Any, line: Any, wanted: Any) -> tuple[Any, Any]:
        """(log-probability, whether it is the likeliest) of token wanted[i] after hidden[line[i]], as numpy arrays.

        hidden: (rows, width), at most `most_rows`. Of tokens that are equally likely the first is the likeliest, as
        argmax has it.
        """
        import torch

        top = hidden.new_full((len(hidden),), float("-inf"), dtype=torch.float32)
        norm = torch.zeros_like(top, dtype=torch.float64)  # of exp(logits - top)
        of_wanted = top.new_zeros(len(wanted))
        hit = torch.zeros_like(wanted, dtype=torch.bool)
        for first, logits in self._pieces(hidden):
            most = logits.amax(dim=-1)
            higher = most > top
            hit &= ~higher[line]
            (here,) = torch.where((wanted >= first) & (wanted < first + logits.shape[1]))
            row, column = line[here], wanted[here] - first
            of_wanted[here] = logits[row, column]
            best = higher[row] & (logits[row, column] == most[row])
            (likely,) = torch.where(best)
            best[likely] = logits[row[likely]].argmax(dim=-1) == column[likely]
            hit[here] = best
            above = torch.maximum(top, most)
            norm *= (top - above).double().exp_()
            norm += logits.sub_(above[:, None]).exp_().sum(dim=-1)
            top = above
        total = top.double() + norm.log_()
        return (of_wanted.double() - total[line]).cpu().numpy(), hit.cpu().numpy()

    def _pieces(self, hidden: Any) -> Iterator[tuple[int, Any]]:
        """(first token, logits (rows, tokens) of float32, to be overwritten) until the vocabulary is at its end."""
        import torch

        if self.buffer is None:
            yield 0, self.head(hidden).to(hidden.device, torch.float32)
            return
        rows, vocabulary = len(hidden), len(self.head.weight)
        width = len(self.buffer) // rows
        for first in range(0, vocabulary, width):
            weight = self.head.weight[first : first + width]
            out = self.buffer[: rows * len(weight)].view(rows, len(weight))
            yield first, torch.mm(hidden, weight.t(), out=out)
