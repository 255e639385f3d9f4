"""A model that a server has: its config and tokenizer from here, and no weights at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from attrs import evolve, frozen

from slmbench.errors import UsageError
from slmbench.hub import use_cache_alone
from slmbench.models._apart import ModelApart
from slmbench.models._digest import config_sha256
from slmbench.models._gguf import gguf_head_folder
from slmbench.models._load import LoadedModel, load_tokenizer, unsettled_config
from slmbench.models._settled import take_ends
from slmbench.models._source import ModelSource
from slmbench.paths import shown
from slmbench.values import Config, Model

UNKNOWN = "unknown"
"""Of a model's weights that nobody here has seen: their digest is '', and this their dtype."""


@frozen(eq=False)
class _Bare:
    """In the place of a skeleton: config and generation config, without modules."""

    config: Config
    generation_config: Any

    def get_input_embeddings(self) -> None:
        """None: how many tokens the served model has embeddings of isn't known."""

    def named_modules(self) -> Iterator[tuple[str, Model]]:
        """None of them."""
        return iter(())


def load_unread(source: ModelSource) -> LoadedModel:
    """A model for an engine that asks a server. model: a `ModelApart`, `weights_sha256` '', `parameters` 0.

    Its prompts are written by the tokenizer and the chat template here; weights need not be here. A GGUF file's head is
    read alone. Raises OfflineError, SlmbenchError, FileError, and UsageError for an encoder-decoder.
    """
    held = source
    if source.file is not None and not os.path.isdir(source.location):
        made = gguf_head_folder(source.file)
        held = evolve(source, location=made.folder, notices=(*source.notices, *made.notices))
    settled = unsettled_config(held)
    if settled.config.is_encoder_decoder:
        raise UsageError(
            f"model {source.name!r} in {shown(source.location)} is an encoder-decoder, which this engine doesn't ask "
            "for; take --engine shared or hf"
        )
    tokenizer = load_tokenizer(held)
    bare = _Bare(settled.config, _generation_config(held, settled.config))
    notices = (*held.notices, *take_ends(bare, settled, tokenizer))
    apart = ModelApart(bare, held.location, "cpu")
    return LoadedModel(held, apart, tokenizer, "", config_sha256(bare), UNKNOWN, 0, notices=notices)


def _generation_config(source: ModelSource, config: Config) -> Any:
    import transformers

    here = os.path.isdir(source.location)
    options: dict[str, Any] = {"local_files_only": here or use_cache_alone()}
    if not here:
        options["revision"] = source.revision or "main"
    with contextlib.suppress(OSError):  # Many a model has none.
        return transformers.GenerationConfig.from_pretrained(source.location, **options)
    return transformers.GenerationConfig.from_model_config(config)
