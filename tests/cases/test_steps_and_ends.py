"""A step's rows may be split in any way, and where padding is EOS the end of an answer is learnt all the same."""

from __future__ import annotations

import copy

import pytest

from slmbench.formats import load_format
from slmbench.task import load_task
from slmbench.training._attention import prepare_model
from slmbench.training._forward import collate, row_losses
from slmbench.training._rows import take_rows

LENGTHS = [(2, 1), (40, 60), (5, 1), (2, 3), (90, 2), (3, 1), (30, 50), (7, 1)]
"""Tokens of prompt and answer: the mean of micro-batches' means is far from the mean over their tokens."""


def _rows():
    rows = []
    for number, (prompt, answer) in enumerate(LENGTHS):
        ids = [5 + (13 * number + 7 * at) % 900 for at in range(prompt + answer)]
        rows.append({"input_ids": ids, "labels": [-100] * prompt + ids[prompt:], "task_id": 0})
    return rows


def _step(model, rows, size, flat):
    """(the loss, the gradients) of one step of all rows, `size` of them at a time."""
    model = copy.deepcopy(model).requires_grad_(True).train()
    if flat:
        assert prepare_model(model)
    scored = sum(answer for _, answer in LENGTHS)
    total = 0.0
    for low in range(0, len(rows), size):
        losses = row_losses(model, collate(rows[low : low + size], 1, flat=flat), scored)
        losses.loss.backward()
        total += float(losses.loss.detach())
    return total, {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("flat", [True, False])
def test_loss_and_gradient_do_not_depend_on_how_rows_are_split(nano, flat):
    import torch

    rows = _rows()
    # transformers' own loss of each row alone, summed over the answers' tokens.
    expected = 0.0
    with torch.no_grad():
        for row, (_, answer) in zip(rows, LENGTHS, strict=True):
            ids, labels = (torch.tensor([row[key]]) for key in ("input_ids", "labels"))
            expected += float(nano.model(input_ids=ids, labels=labels).loss) * answer
    whole, slopes = _step(nano.model, rows, 8, flat)
    assert whole == pytest.approx(expected / sum(answer for _, answer in LENGTHS), rel=1e-5)
    for size in (1, 2, 3, 4):
        loss, found = _step(nano.model, rows, size, flat)
        assert loss == pytest.approx(whole, rel=1e-5)
        for name, slope in slopes.items():
            assert torch.allclose(found[name], slope, rtol=1e-3, atol=1e-5), name


def test_the_end_of_an_answer_is_learnt_where_padding_is_eos(clone, edit, load):
    folder = clone()
    edit(folder / "tokenizer_config.json", pad_token="<|end|>")
    edit(folder / "config.json", pad_token_id=0)
    loaded = load(folder)
    assert loaded.tokenizer.pad_token_id == loaded.tokenizer.eos_token_id == 0
    taken = take_rows(load_task("nano_note"), load_format("plain"), loaded.tokenizer, limit=6, max_tokens=512)
    fed = [{"input_ids": r.prompt + r.answer, "labels": [-100] * len(r.prompt) + r.answer} for r in taken.rows]
    batch = collate(fed, loaded.tokenizer.pad_token_id, flat=False)
    assert (batch["attention_mask"] == 0).any()
    for row, ids, labels, seen in zip(
        taken.rows, batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True
    ):
        end = len(row.prompt) + len(row.answer) - 1
        assert (ids[end], labels[end], seen[end]) == (0, 0, 1)
        assert (labels[end + 1 :] == -100).all()
    assert row_losses(loaded.model, batch).tokens.tolist() == [len(row.answer) for row in taken.rows]
