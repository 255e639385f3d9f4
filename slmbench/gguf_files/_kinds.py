"""In what a GGUF file's numbers may be packed, by llama.cpp's names of it."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from slmbench.errors import UsageError, did_you_mean


@frozen
class Kind:
    """One way to pack a model. name: llama.cpp's, as Q4_K_M.

    bits: about so many a weight, what it costs in all included. packing: the one of gguf's own packings that most
    tensors get, where that package packs it; None where llama.cpp's quantiser alone does.
    """

    name: str
    bits: float
    packing: str | None = None

    @property
    def file_type(self) -> str:
        """llama.cpp's name of a whole file that is packed so."""
        return "ALL_F32" if self.name == "F32" else f"MOSTLY_{self.name}"

    @property
    def is_whole(self) -> bool:
        """Whether nothing is quantised."""
        return self.name in ("F32", "F16", "BF16")


_KINDS = [
    Kind("F32", 32.0, "F32"),
    Kind("F16", 16.0, "F16"),
    Kind("BF16", 16.0, "BF16"),
    Kind("Q8_0", 8.5, "Q8_0"),
    Kind("Q6_K", 6.6),
    Kind("Q5_1", 6.0, "Q5_1"),
    Kind("Q5_K_M", 5.7),
    Kind("Q5_K_S", 5.5),
    Kind("Q5_0", 5.5, "Q5_0"),
    Kind("Q4_1", 5.0, "Q4_1"),
    Kind("Q4_K_M", 4.9),
    Kind("Q4_K_S", 4.6),
    Kind("Q4_0", 4.5, "Q4_0"),
    Kind("IQ4_NL", 4.5),
    Kind("IQ4_XS", 4.3),
    Kind("Q3_K_L", 4.3),
    Kind("Q3_K_M", 3.9),
    Kind("Q3_K_S", 3.5),
    Kind("Q2_K", 3.2),
]
KINDS = {kind.name.lower(): kind for kind in _KINDS}
"""Kinds by their names in small letters, the largest first."""

# As llama.cpp's own tool takes them.
_SHORT = {"q3_k": "q3_k_m", "q4_k": "q4_k_m", "q5_k": "q5_k_m", "fp16": "f16", "fp32": "f32"}
_BY_MATRIX = ("iq1_", "iq2_", "iq3_", "q2_k_s", "tq1_", "tq2_")


def read_kinds(names: Iterable[str], flag: str = "--quantize") -> list[Kind]:
    """The kinds that are asked for, in their order, each once. flag: what asks.

    Raises UsageError with all names that are none.
    """
    found: dict[str, Kind] = {}
    faults = []
    for given in names:
        name = given.strip().lower().replace("-", "_")
        name = _SHORT.get(name, name)
        if name in KINDS:
            found[name] = KINDS[name]
        elif name.startswith(_BY_MATRIX):
            faults.append(f"{given!r} needs an importance matrix, which llama.cpp's `llama-imatrix` makes: quantise an "
                          "F16 file with `llama-quantize --imatrix`")  # fmt: skip
        else:
            faults.append(f"{given!r} is not a way to pack a model{did_you_mean(name, KINDS)}")
    if not found and not faults:
        faults.append(f"no kind is given; known: {', '.join(KINDS)}")
    if faults:
        raise UsageError(f"{flag}: {'; '.join(faults)}")
    return list(found.values())
