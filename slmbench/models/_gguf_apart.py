"""A GGUF file for a program that computes with its packed weights: config and tokenizer alone, nothing dequantised."""

from __future__ import annotations

import os
from collections.abc import Callable

from attrs import evolve

from slmbench.errors import UsageError
from slmbench.files import file_sha256
from slmbench.models._apart import ModelApart
from slmbench.models._digest import config_sha256
from slmbench.models._gguf import gguf_head_folder
from slmbench.models._gguf_head_checks import check_whole, packing_of
from slmbench.models._gguf_header import read_gguf_head
from slmbench.models._load import LoadedModel, load_model, load_tokenizer, settled_config
from slmbench.models._settled import take_ends
from slmbench.models._source import ModelSource
from slmbench.paths import shown


def load_gguf(source: ModelSource) -> LoadedModel:
    """A GGUF file's model for an engine that reads the file itself. model: a `ModelApart` with the file.

    Its digest is the file's, its dtype and packing are what most of its numbers are in. Raises UsageError for a model
    that is no GGUF file, or none that can be computed so, SlmbenchError if the cache can't be written.
    """
    import torch
    import transformers

    if source.file is None:
        raise UsageError(
            f"model {source.name!r} ({source.id}) is not a GGUF file, and llama.cpp reads nothing else; write one with "
            "`slmbench export ADAPTER --to gguf` and give that, or take --engine shared"
        )
    path = source.file
    head = read_gguf_head(path)
    check_whole(head)
    folder = source.location if os.path.isdir(source.location) else gguf_head_folder(path).folder
    held = evolve(source, location=folder)
    settled = settled_config(held)
    if settled.config.is_encoder_decoder:
        raise UsageError(
            f"{shown(path)} is an encoder-decoder, which this engine doesn't compute; take --engine shared"
        )
    tokenizer = load_tokenizer(held)
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token
    with torch.device("meta"):
        skeleton = transformers.AutoModelForCausalLM.from_config(settled.config)
    generation = os.path.join(folder, "generation_config.json")
    if os.path.isfile(generation):
        skeleton.generation_config = transformers.GenerationConfig.from_pretrained(folder)
    notices = [*source.notices, *settled.notices, *take_ends(skeleton, settled, tokenizer)]
    packing = packing_of(head)
    apart = ModelApart(skeleton, folder, "cpu", file=path, digest_of=_digests(held))
    return LoadedModel(
        source,
        apart,
        tokenizer,
        file_sha256(path),
        config_sha256(skeleton),
        packing,
        sum(parameter.numel() for parameter in skeleton.parameters()),
        quantization=f"llama.cpp {packing}",
        notices=tuple(notices),
    )


def _digests(source: ModelSource) -> Callable[[str], list[str]]:
    """dtype -> digests under which adapters know the weights that a file was made of."""

    def found(dtype: str) -> list[str]:
        from slmbench.models._gguf import gguf_folder

        assert source.file is not None
        whole = evolve(source, location=gguf_folder(source.file).folder)
        return [load_model(whole, dtype=dtype, on_cpu=True).weights_sha256]

    return found
