"""What an adapter changes of its base: a product of two thin matrices for a weight, or a whole tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from attrs import field, frozen

from slmbench.errors import UsageError
from slmbench.models import AdapterInfo

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["linear", "conv1d", "embedding"]


@frozen(eq=False)
class Factors:
    """The change of one weight: scaling * b @ a, which lies as the base's own parameter does, (m, n).

    a: (r, n) and b: (m, r), float32. kind: of the layer; peft keeps the factors of an embedding, and of a Conv1D, whose
    weight is (inputs, outputs), the other way round. magnitude: DoRA's length of each output, (outputs,) of a linear
    layer; the change is then that of `weight_change`, which needs the base's weight.
    """

    a: Tensor
    b: Tensor
    scaling: float = 1.0
    kind: Kind = "linear"
    magnitude: Tensor | None = None

    @property
    def rank(self) -> int:
        return int(self.a.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n) of the weight that is changed."""
        return int(self.b.shape[0]), int(self.a.shape[1])


@frozen(eq=False)
class LoraUpdate:
    """What an adapter changes of its base, by the base's own names of parameters.

    name: as it is called in the merge. modules: name of a weight -> its change. shifts: name of a bias -> what is added
    to it, float32, as lora_bias trains it. whole: name -> a tensor that stands in the place of the base's, as
    modules_to_save has it, in its own dtype. copied: those of `whole` that were saved with the adapter without being
    trained, as peft does with embeddings.
    """

    name: str
    info: AdapterInfo
    modules: Mapping[str, Factors]
    shifts: Mapping[str, Tensor] = field(factory=dict)
    whole: Mapping[str, Tensor] = field(factory=dict)
    copied: frozenset[str] = frozenset()

    @property
    def folder(self) -> str:
        return self.info.folder

    @property
    def sha256(self) -> str:
        return self.info.sha256

    @property
    def needs_base(self) -> list[str]:
        """Names of parameters whose change is known beside the base's own alone: DoRA, modules_to_save."""
        dora = [name for name, factors in self.modules.items() if factors.magnitude is not None]
        return [*dora, *(name for name in self.whole if name not in self.copied)]


def weight_change(factors: Factors, base: Tensor | None = None) -> Tensor:
    """The change of a weight, (m, n), float32.

    base: the weight itself, (m, n) of any dtype, which DoRA's change alone needs: m_i (W + D)_i / |(W + D)_i| - W_i
    with D = scaling * b @ a, for each output i. Raises UsageError for DoRA without it. Source: Liu et al. 2024,
    arXiv:2402.09353, equation 5; peft 0.21 `tuners/lora/variants.py`.
    """
    import torch

    change = (factors.b @ factors.a).mul_(factors.scaling)
    if factors.magnitude is None:
        return change
    if base is None:
        raise UsageError("the change of a weight by DoRA depends on the weight: give the base")
    turned = base.float() + change
    along = 1 if factors.kind == "linear" else 0
    length = torch.linalg.vector_norm(turned, dim=along, keepdim=True)
    return turned.mul_(factors.magnitude.unsqueeze(along) / length).sub_(base)


def stacked(factors: Sequence[Factors], weights: Sequence[float]) -> Factors:
    """The weighted sum of changes, exactly: factors side by side, of the sum of the ranks.

    Raises UsageError for DoRA, whose changes are no products of factors.
    """
    import torch

    if any(one.magnitude is not None for one in factors):
        raise UsageError("a change by DoRA isn't a product of two thin matrices and can't be stacked")
    a = torch.cat([one.a for one in factors])
    b = torch.cat([one.b * (weight * one.scaling) for weight, one in zip(weights, factors, strict=True)], 1)
    return Factors(a, b, 1.0, factors[0].kind)
