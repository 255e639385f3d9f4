"""A model in memory as a GGUF file: weights in llama.cpp's names and order, settings, tokenizer, and its origin."""

from __future__ import annotations

import functools
import math
from typing import Any

from attrs import evolve, frozen

from slmbench.errors import UsageError
from slmbench.gguf_files._kinds import Kind
from slmbench.gguf_files._layouts import GgufLayout, class_of, layout_of
from slmbench.gguf_files._settings import angle_tensors, setting_faults, write_settings
from slmbench.gguf_files._stream import GgufPart, write_gguf
from slmbench.gguf_files._vocabulary import GgufVocabulary, write_vocabulary
from slmbench.values import Array, Config, Model, Tensor

_EMBEDDINGS, _HEAD = "token_embd.weight", "output.weight"


@frozen
class About:
    """Of a model what a file says of where it is from. name: as programs show it; finetune: what was trained.

    base, base_url: the model that it was made from. license: of the base.
    """

    name: str
    finetune: str | None = None
    base: str | None = None
    base_url: str | None = None
    license: str | None = None


def check_writable(config: Config) -> GgufLayout:
    """The layout of a model that can be written as GGUF.

    Raises UsageError, with all reasons and a way out, for a class or a setting that llama.cpp hasn't got or that is
    not written here.
    """
    layout = layout_of(config)
    if faults := setting_faults(config, layout):
        raise UsageError(
            f"no GGUF file of a {class_of(config)} says this: {'; '.join(faults)}; export with `--to merged`, or "
            "`--to gguf-ready` for llama.cpp's own converter"
        )
    return layout


def write_gguf_model(path: str, model: Model, vocabulary: GgufVocabulary, about: About, kind: Kind) -> None:
    """Writes a transformers model as a GGUF file, packed by gguf's own package; whole or not at all.

    kind: one whose `packing` isn't None. Matrices get it; vectors are in float32, rows whose length the packing doesn't
    divide in float16. Of a kind below eight bits the head (or the embeddings that are the head) has eight: llama.cpp
    keeps it in six, which this package doesn't pack.
    Raises UsageError for a model that can't be written, SlmbenchError where the disk can't be written or where float16
    doesn't hold a number.
    """
    layout = evolve(check_writable(model.config), tied=_is_tied(model))
    tensors = _placed(model, layout)
    rows = int(tensors[_EMBEDDINGS].shape[0])
    parts = [
        GgufPart(name, tuple(factors.shape), "F32", functools.partial(_given, factors))
        for name, factors in angle_tensors(model.config).items()
    ]
    for name, tensor in tensors.items():
        shape = tuple(tensor.shape)
        make = functools.partial(_numbers, tensor, layout, name)
        parts.append(GgufPart(name, shape, _packing(name, shape, kind, layout), make))

    def head(writer: Any) -> None:
        import gguf

        writer.add_type(gguf.GGUFType.MODEL)
        _write_about(writer, about)
        numbers = sum(math.prod(part.shape) for part in parts)
        writer.add_size_label(gguf.size_label(numbers, numbers, 0, 0))
        write_settings(writer, layout, model.config, rows)
        writer.add_file_type(gguf.LlamaFileType[kind.file_type])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        write_vocabulary(writer, vocabulary)

    write_gguf(path, layout.architecture, head, parts)


def _write_about(writer: Any, about: About) -> None:
    writer.add_name(about.name)
    if about.finetune:
        writer.add_finetune(about.finetune)
    if about.license:
        writer.add_license(about.license)
    if about.base:
        writer.add_basename(about.base)
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, about.base)
        if about.base_url:
            writer.add_base_model_repo_url(0, about.base_url)


def _placed(model: Model, layout: GgufLayout) -> dict[str, Tensor]:
    """llama.cpp's name -> tensor, of all that a model has. Raises UsageError with those that have no place."""
    found, odd = {}, []
    for name, tensor in model.state_dict().items():
        stem, _, last = name.rpartition(".")
        place = layout.place(stem)
        if place is not None:
            found[f"{place}.{last}"] = tensor
        elif not (stem == "lm_head" and layout.tied):
            odd.append(name)
    if odd:
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        raise UsageError(
            f"llama.cpp has no place for {', '.join(odd[:3])}{more}, so the file would be another model; export with "
            "`--to merged`"
        )
    return found


def _is_tied(model: Model) -> bool:
    """Whether the head is the embeddings, by the numbers: an adapter may have changed one of the two."""
    import torch

    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight is embeddings.weight:
        return True
    return bool(model.config.tie_word_embeddings) and torch.equal(head.weight, embeddings.weight)


def _packing(name: str, shape: tuple[int, ...], kind: Kind, layout: GgufLayout) -> str:
    import gguf

    assert kind.packing is not None
    if len(shape) < 2 or name.endswith("_norm.weight"):
        return "F32"
    packing = kind.packing
    if not kind.is_whole and name == (_EMBEDDINGS if layout.tied else _HEAD):
        packing = "Q8_0"
    block, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[packing]]
    return packing if shape[-1] % block == 0 else "F16"


def _numbers(tensor: Tensor, layout: GgufLayout, name: str) -> Array:
    return layout.turned(name.rpartition(".")[0], tensor.detach().float().cpu().numpy())


def _given(factors: Array) -> Array:
    return factors
