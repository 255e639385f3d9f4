"""What people call the layers that an adapter is on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

_ATTENTION = (
    {"q_proj", "k_proj", "v_proj", "o_proj"},
    {"q_proj", "k_proj", "v_proj", "out_proj"},
    {"qkv_proj", "o_proj"},
    {"query_key_value", "dense"},
    {"q", "k", "v", "o"},
)
_MLP = (
    {"gate_proj", "up_proj", "down_proj"},
    {"gate_up_proj", "down_proj"},
    {"dense_h_to_4h", "dense_4h_to_h"},
    {"fc1", "fc2"},
    {"wi", "wo"},
    {"wi_0", "wi_1", "wo"},
)


_PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj"]
_FORWARD = ["gate_proj", "up_proj", "down_proj"]
TARGETS_OF_LABELS: dict[str, list[str] | str] = {
    "attention": _PROJECTIONS,
    "mlp": _FORWARD,
    "both": [*_PROJECTIONS, *_FORWARD],
    "all-linear": "all-linear",
}
"""label in small letters -> the layers that it stands for in most families."""
TARGET_LABELS = ("attention", "MLP", "both", "all-linear")


def targets_label(targets: Sequence[str] | str | None) -> str:
    """`attention`, `MLP` or `both` of all projections of either kind, by the names of families that are known.

    `all-linear` as it is; of any other list its names, with what they are a part of, as `attention: q_proj, v_proj`;
    `as declared` if the model says it.
    """
    if targets is None:
        return "as declared"
    if isinstance(targets, str):
        return targets
    found = set(targets)
    if found in _ATTENTION:
        return "attention"
    if found in _MLP:
        return "MLP"
    if any(found == one | other for one, other in itertools.product(_ATTENTION, _MLP)):
        return "both"
    kind = next((name for name, sets in (("attention: ", _ATTENTION), ("MLP: ", _MLP)) if _within(found, sets)), "")
    return kind + ", ".join(targets)


def _within(found: set[str], sets: Sequence[set[str]]) -> bool:
    return any(found <= one for one in sets)
