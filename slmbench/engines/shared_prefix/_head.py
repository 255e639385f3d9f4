"""Log-probabilities of wanted tokens, from hidden states: the vocabulary piece by piece, in memory that stays small."""

from __future__ import annotations

from collections.abc import Iterator

from slmbench.values import Array, Model, Tensor

HEAD_BYTES = 100_000_000
"""Of the logits of all the vocabulary, where they are made at a time."""
PIECE_BYTES = 16_000_000
"""Of the logits that are made at a time on a CPU, near whose cache they stay until they are summed."""
UNKNOWN_VOCABULARY = 2**17
"""Taken for the vocabulary of a head that doesn't say how many logits it makes."""


class Head:
    """A model's head. A plain product in float32 on a CPU is made piece by piece, always into the same memory: fresh
    memory has to be made by the system page by page, which takes a fifth of the time.
    """

    def __init__(self, head: Model, most_tokens: int) -> None:
        """head: the module that makes logits (rows, vocab) of hidden states (rows, width)."""

        self.head = head
        self.buffer = None
        if _is_plain_product(head):
            self.most_rows = most_tokens
            self.buffer = head.weight.new_empty(max(PIECE_BYTES // 4, most_tokens))
        else:
            vocabulary = getattr(head, "out_features", None) or UNKNOWN_VOCABULARY
            self.most_rows = max(1, min(HEAD_BYTES // (4 * vocabulary), most_tokens))

    def log_probabilities(self, hidden: Tensor, line: Tensor, wanted: Tensor) -> tuple[Array, Array]:
        """(log-probability, whether it is the likeliest) of token wanted[i] after hidden[line[i]], as numpy arrays.

        hidden: (rows, width), at most `most_rows`. Of tokens that are equally likely the first is the likeliest, as
        argmax has it.
        """
        import torch

        # From the least number on, not from -inf: a difference of two such would be no number.
        top = hidden.new_full((len(hidden),), torch.finfo(torch.float32).min, dtype=torch.float32)
        norm = torch.zeros_like(top)  # the sum of exp(logits - top)
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
            norm *= (top - above).exp_()
            norm += logits.sub_(above[:, None]).exp_().sum(dim=-1)
            top = above
        hit &= ~norm.isnan()[line]  # To argmax, what is no number is the largest.
        # Each in float32, as HFLM's; what is summed over tokens is summed in float64, by the caller.
        found = of_wanted - (top + norm.log_())[line]
        return found.cpu().double().numpy(), hit.cpu().numpy()

    def _pieces(self, hidden: Tensor) -> Iterator[tuple[int, Tensor]]:
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


def _is_plain_product(head: Model) -> bool:
    """Whether a head is a matrix of float32 on the CPU, and nothing else happens in it."""
    import torch

    if type(head) is not torch.nn.Linear or type(head.weight) is not torch.nn.Parameter or head.bias is not None:
        return False
    changed = head._forward_hooks or head._forward_pre_hooks or "forward" in vars(head)
    exact = head.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return exact and head.weight.device.type == "cpu" and not changed
