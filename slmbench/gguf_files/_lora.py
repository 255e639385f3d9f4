"""A LoRA adapter as llama.cpp has it. Source: llama.cpp, convert_lora_to_gguf.py and src/llama-adapter.cpp."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from attrs import frozen

from slmbench.errors import UsageError
from slmbench.gguf_files._layouts import GgufLayout
from slmbench.gguf_files._stream import GgufPart, write_gguf
from slmbench.values import Array


@frozen(eq=False)
class LoraPair:
    """What one module has of a LoRA.

    module: as the base names it, `model.layers.0.self_attn.q_proj`. inner: (rank, inputs); outer: (outputs, rank), both
    float32. scale: what their product is multiplied by before it is added to the weight, alpha / rank or, of rsLoRA,
    alpha / sqrt(rank).
    """

    module: str
    inner: Array
    outer: Array
    scale: float

    @property
    def alpha(self) -> float:
        """By which llama.cpp, that knows alpha / rank alone, comes to this scale."""
        return self.scale * float(self.inner.shape[0])


def write_lora(path: str, layout: GgufLayout, pairs: Sequence[LoraPair], *, name: str, base: str | None = None) -> None:
    """Writes a LoRA adapter as a GGUF file that llama.cpp puts on a model of this layout; whole or not at all.

    llama.cpp takes one alpha for all modules: the most common one is written, and where another holds, or none, the
    outer side is multiplied by what is missing. name, base: for a person who looks into the file.
    Raises UsageError, which names every module, for one that llama.cpp has no tensor of or that has no pair of this
    shape; SlmbenchError where the disk can't be written.
    """
    places = [_place(layout, pair) for pair in pairs]
    faults = [place.said for place in places if place.said]
    if not pairs:
        faults = ["it changes no module"]
    if faults:
        raise UsageError(f"{name!r} is not an adapter for llama.cpp: {'; '.join(faults[:5])}{_more(faults)}")
    alphas = Counter(round(pair.alpha, 9) for pair in pairs if pair.scale)
    alpha = alphas.most_common(1)[0][0] if alphas else 1.0

    def head(writer: Any) -> None:
        import gguf

        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_name(name)
        if base is not None:
            writer.add_base_model_count(1)
            writer.add_base_model_name(0, base)
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)

    parts = []
    for pair, place in zip(pairs, places, strict=True):
        missing = 1.0 if round(pair.alpha, 9) == alpha else pair.alpha / alpha
        parts += _parts(layout, place.name, pair, missing)
    write_gguf(path, layout.architecture, head, parts)


@frozen
class _Place:
    name: str
    said: str = ""


def _place(layout: GgufLayout, pair: LoraPair) -> _Place:
    found = layout.place(pair.module)
    shapes = [tuple(side.shape) for side in (pair.inner, pair.outer)]
    if found is None:
        why = " (the head is the embeddings, which llama.cpp puts no adapter on)" if "lm_head" in pair.module else ""
        return _Place("", f"llama.cpp has no tensor for {pair.module}{why}")
    if [len(shape) for shape in shapes] != [2, 2] or shapes[0][0] != shapes[1][1]:
        return _Place("", f"{pair.module} has sides of {list(shapes[0])} and {list(shapes[1])}, which make no product")
    return _Place(found)


def _parts(layout: GgufLayout, place: str, pair: LoraPair, missing: float) -> list[GgufPart]:
    outer = layout.turned(place, pair.outer) * missing if missing != 1.0 else layout.turned(place, pair.outer)
    return [
        GgufPart(f"{place}.weight.lora_a", tuple(pair.inner.shape), "F32", lambda: pair.inner),
        GgufPart(f"{place}.weight.lora_b", tuple(pair.outer.shape), "F32", lambda: outer),
    ]


def _more(faults: list[str]) -> str:
    return f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
