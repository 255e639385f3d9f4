"""What people call the layers that an adapter is on."""

from __future__ import annotations

import pytest

from slmbench.schema import targets_label


@pytest.mark.parametrize(
    ("targets", "label"),
    [
        (["v_proj", "q_proj", "k_proj", "o_proj"], "attention"),
        (["qkv_proj", "o_proj", "gate_up_proj", "down_proj"], "both"),
        (["q", "k", "v", "o"], "attention"),
        (["q", "k", "v", "o", "wi_0", "wi_1", "wo"], "both"),
        (["gate_proj", "up_proj", "down_proj"], "MLP"),
        (["q", "v"], "attention: q, v"),
        (["up_proj"], "MLP: up_proj"),
        (["q_proj", "up_proj"], "q_proj, up_proj"),
        (["mine"], "mine"),
        ("all-linear", "all-linear"),
        (None, "as declared"),
    ],
)
def test_all_projections_of_a_kind_have_its_name_and_others_their_own(targets, label) -> None:
    assert targets_label(targets) == label
