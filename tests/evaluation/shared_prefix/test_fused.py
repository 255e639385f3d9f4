"""Parts of a model in fewer passes: what its own modules compute, and the model as it was afterwards."""

from __future__ import annotations

import pytest

from slmbench.evaluation.shared_prefix._fused import parts_fused


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral"])
def test_hidden_states_are_those_of_the_models_own_parts(kind, tiny) -> None:
    import torch

    model = tiny(kind)
    ids = torch.arange(24).view(2, 12)
    with torch.no_grad():
        want = model(ids).logits
        with parts_fused(model):
            assert sum("forward" in vars(module) for module in model.modules()) > 2
            made = model(ids).logits
        assert torch.equal(model(ids).logits, want)
    assert float((made - want).abs().max()) < 1e-4 * float(want.abs().max())
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_module_with_a_forward_of_its_own_keeps_it(tiny) -> None:
    model = tiny("llama")
    norm = model.model.norm
    norm.forward = own = lambda x: x
    with parts_fused(model):
        assert norm.forward is own
    assert norm.forward is own


def test_an_error_inside_leaves_the_model_as_it_was(tiny) -> None:
    model = tiny("llama")
    with pytest.raises(KeyboardInterrupt), parts_fused(model):
        raise KeyboardInterrupt
    assert not any("forward" in vars(module) for module in model.modules())
