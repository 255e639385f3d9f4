"""Along the great circle between two models, or between what two models changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from slmbench.errors import UsageError
from slmbench.merging.methods._pieces import like, pieces
from slmbench.merging.methods._shares import shares
from slmbench.registry import merge_method

if TYPE_CHECKING:
    from torch import Tensor

NEAR = 0.9995
"""Beyond this cosine, and below its negative, the straight line is taken, as is usual since Shoemake."""


@merge_method(
    "slerp",
    summary="Along the great circle from one model to another; between their weights, or their changes.",
    version="1",
    models=(2, 2),
    ranges={"t": "[0, 1]"},
)
def slerp(
    tensors: Sequence[Tensor],
    base: Tensor | None,
    weights: Sequence[float],
    *,
    t: float | None = None,
    of: Literal["weights", "deltas"] = "weights",
) -> tuple[Tensor, dict[str, float | str]]:
    """sin((1 - t) phi) / sin phi a + sin(t phi) / sin phi b, where phi is the angle between a and b as flat vectors.

    t: 0 is the first model, 1 the second; w_2 / (w_1 + w_2) of the weights if it isn't given, which is 0.5 of equal
    ones. of: `weights` takes the tensors as they are; `deltas` what they changed of the base, which is added again.
    Two fine-tunes of one model differ by a hundredth and less, so that the cosine of their weights is beyond 0.9995 and
    (1 - t) a + t b is taken: their average in all but name. Their deltas do have an angle.

    Facts: path, `spherical` or `linear`; cosine (None of a vector of length 0, where the line is taken). Dot products
    are summed in float64. Source: Shoemake 1985, Animating rotation with quaternion curves, SIGGRAPH 19(3).
    """
    if of == "deltas" and base is None:
        raise UsageError("of: deltas needs a base")
    if t is None:
        t = shares(weights)[1]
        if not 0 <= t <= 1:
            raise UsageError(f"weights of one sign say where between two models; got {weights[0]:g} and {weights[1]:g}")
    start = base if of == "deltas" else None
    dot = first = second = 0.0
    for piece in pieces(tensors, start):
        a, b = (one.double() for one in (piece.tensors if start is None else piece.changes()))
        dot, first, second = dot + float(a @ b), first + float(a @ a), second + float(b @ b)
    cosine = max(-1.0, min(1.0, dot / math.sqrt(first) / math.sqrt(second))) if first > 0 < second else None
    spherical = cosine is not None and abs(cosine) <= NEAR
    if cosine is not None and spherical:
        phi = math.acos(cosine)
        parts = math.sin((1 - t) * phi) / math.sin(phi), math.sin(t * phi) / math.sin(phi)
    else:
        parts = 1 - t, t
    merged, flat = like(tensors[0])
    for piece in pieces(tensors, start):
        a, b = piece.tensors if start is None else piece.changes()
        total = (a * parts[0]).add_(b, alpha=parts[1])
        flat[piece.at] = total if piece.base is None else total.add_(piece.base)
    facts: dict[str, float | str] = {"path": "spherical" if spherical else "linear"}
    return merged, facts if cosine is None else {**facts, "cosine": cosine}
