"""The head's log-probabilities against torch's log_softmax and argmax over the whole vocabulary."""

from __future__ import annotations

import pytest
import torch

from slmbench.engines.shared_prefix import _head
from slmbench.engines.shared_prefix._head import Head

ROWS, WIDTH, VOCABULARY = 7, 16, 101


def asked(seed: int = 0) -> tuple[torch.nn.Linear, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A head, hidden states, and wanted tokens: for each state some that aren't, then the one that is the likeliest."""
    torch.manual_seed(seed)
    head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
    hidden = torch.randn(ROWS, WIDTH)
    line = torch.arange(ROWS).repeat(3)
    wanted = torch.cat([torch.randint(0, VOCABULARY, (2 * ROWS,)), head(hidden).argmax(dim=-1)])
    return head, hidden, line, wanted


def expected(head: torch.nn.Module, hidden: torch.Tensor, line: torch.Tensor, wanted: torch.Tensor):
    logits = head(hidden).double()
    return torch.log_softmax(logits, -1)[line, wanted].tolist(), (logits.argmax(-1)[line] == wanted).tolist()


@pytest.mark.parametrize("width", [1, 10, 100, 101, 1000])
@torch.no_grad()
def test_pieces_of_any_width_give_what_the_whole_vocabulary_gives(width, monkeypatch) -> None:
    monkeypatch.setattr(_head, "PIECE_BYTES", 4 * width * ROWS)
    head, hidden, line, wanted = asked()
    found, hit = Head(head, ROWS).log_probabilities(hidden, line, wanted)
    value, likeliest = expected(head, hidden, line, wanted)
    assert found == pytest.approx(value, abs=1e-5)
    assert hit.tolist() == likeliest
    assert all(likeliest[2 * ROWS :]) and not all(likeliest)


@pytest.mark.parametrize("width", [2, 3, 50, 1000])
@torch.no_grad()
def test_of_equal_logits_the_first_is_the_likeliest(width, monkeypatch) -> None:
    monkeypatch.setattr(_head, "PIECE_BYTES", 4 * width)
    head = torch.nn.Linear(1, 100, bias=False)
    head.weight.zero_()
    head.weight[[13, 14, 40, 99]] = 1
    wanted = torch.tensor([0, 13, 14, 40, 99])
    found, hit = Head(head, 1).log_probabilities(torch.ones(1, 1), torch.zeros_like(wanted), wanted)
    assert hit.tolist() == [False, True, False, False, False]
    assert found[1:] == pytest.approx([float(torch.log_softmax(head.weight[:, 0], 0)[13])] * 4)
    _, hit = Head(head, 1).log_probabilities(-torch.ones(1, 1), torch.zeros_like(wanted), wanted)
    assert hit.tolist() == [True, False, False, False, False]


@torch.no_grad()
def test_logits_far_from_zero_stay_exact(monkeypatch) -> None:
    monkeypatch.setattr(_head, "PIECE_BYTES", 4 * 10 * ROWS)
    head, hidden, line, wanted = asked()
    for factor in (1e3, 1e-3):
        found, _ = Head(head, ROWS).log_probabilities(hidden * factor, line, wanted)
        value, _ = expected(head, hidden * factor, line, wanted)
        assert found == pytest.approx(value, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("width", [1, 3, 1000])
@torch.no_grad()
def test_logits_that_are_no_finite_numbers_count_as_for_log_softmax(width, monkeypatch) -> None:
    monkeypatch.setattr(_head, "PIECE_BYTES", 4 * width)
    head = torch.nn.Linear(1, 6, bias=False)
    line, wanted = torch.zeros(6, dtype=torch.long), torch.arange(6)
    head.weight[:, 0] = torch.tensor([float("-inf")] * 3 + [2.0, 1.0, float("-inf")])
    found, hit = Head(head, 1).log_probabilities(torch.ones(1, 1), line, wanted)
    assert found.tolist() == pytest.approx(torch.log_softmax(head.weight[:, 0], 0).tolist())
    assert hit.tolist() == [False, False, False, True, False, False]
    head.weight[:, 0] = torch.tensor([1.0, 0.0, 0.0, float("nan"), 0.0, 0.5])
    found, hit = Head(head, 1).log_probabilities(torch.ones(1, 1), line, wanted)
    assert torch.from_numpy(found).isnan().all()
    assert not hit.any()


@pytest.mark.parametrize("kind", ["bias", "patched", "hook", "bfloat16", "module"])
@torch.no_grad()
def test_a_head_that_is_no_plain_product_is_asked_itself(kind) -> None:
    head, hidden, line, wanted = asked()
    if kind == "bias":
        head = torch.nn.Linear(WIDTH, VOCABULARY)
    elif kind == "hook":
        head.register_forward_hook(lambda module, args, out: out * 2)
    elif kind == "patched":
        head.forward = lambda states, real=head.forward: real(states) * 2
    elif kind == "bfloat16":
        head, hidden = head.bfloat16(), hidden.bfloat16()
    else:
        head = torch.nn.Sequential(head, torch.nn.Tanh())
    found, hit = Head(head, ROWS).log_probabilities(hidden, line, wanted)
    value, likeliest = expected(head, hidden, line, wanted)
    assert found == pytest.approx(value, abs=1e-5)
    assert hit.tolist() == likeliest
