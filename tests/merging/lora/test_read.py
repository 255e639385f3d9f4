"""An adapter's changes are those that peft makes; what is no sum of changes is refused by name."""

from __future__ import annotations

import pytest

from slmbench.merging.lora import check_fit, read_lora, weight_change


def _merged_by_peft(model, folder):
    """name -> what peft's merging adds to each parameter of a model."""
    import peft

    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    after = peft.PeftModel.from_pretrained(model, folder).merge_and_unload()
    return before, {name: value.detach() - before[name] for name, value in after.named_parameters()}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True, "r": 6},
        {"rank_pattern": {"layers.0.self_attn.q_proj": 7}, "alpha_pattern": {"down_proj": 3}},
        {"use_dora": True},
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"target_modules": ["embed_tokens"], "use_dora": True},
        {"target_modules": "all-linear", "init_lora_weights": "orthogonal"},
    ],
    ids=str,
)
def test_the_change_is_what_peft_merges(adapter, tiny, settings):
    import torch

    update = read_lora(adapter("one", **settings))
    before, changes = _merged_by_peft(tiny(), update.folder)
    check_fit(update, {name: tuple(value.shape) for name, value in before.items()})
    changed = {name for name, value in changes.items() if float(value.abs().max()) > 0}
    assert changed == set(update.modules)
    for name, factors in update.modules.items():
        torch.testing.assert_close(weight_change(factors, before[name]), changes[name], rtol=1e-5, atol=1e-6)
