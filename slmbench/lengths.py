"""Lengths of texts in the tokens of one model, counted many at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from attrs import frozen

from slmbench.catalog import Catalog
from slmbench.errors import SlmbenchError
from slmbench.foreign import read_object
from slmbench.models import ModelSource, load_tokenizer, resolve_model
from slmbench.paths import shown
from slmbench.schema import ModelSpec, parse
from slmbench.values import Tokenizer
from slmbench.yamlfile import read_yaml

NO_LIMIT = 10**9
"""What a tokenizer names for its length is none from here on."""


@frozen(eq=False)
class Ruler:
    """A model's tokenizer. context_tokens: how many the model reads, None if it isn't known.

    for_answers: a person asked for this model, so that gold answers are held against max_tokens in its tokens.
    """

    model: str
    tokenizer: Any
    context_tokens: int | None = None
    for_answers: bool = False

    def lengths(self, texts: Sequence[str], *, special_tokens: bool = True) -> list[int]:
        """Tokens of each text. special_tokens: BOS and the like count where the tokenizer adds them by itself.

        A text that begins with BOS gets no second one, as in `formats.prompt_ids`.
        """
        if not texts:
            return []
        bos = self.tokenizer.bos_token
        found = dict.fromkeys(texts, 0)
        begun = [text for text in found if bos and text.startswith(bos)]
        for group, special in ((begun, False), ([text for text in found if text not in set(begun)], special_tokens)):
            if group:
                # A text longer than the tokenizer's own limit is what is being looked for, no reason for a warning.
                ids = self.tokenizer(group, add_special_tokens=special, verbose=False)["input_ids"]
                found.update(zip(group, map(len, ids), strict=True))
        return [found[text] for text in texts]


def open_ruler(name: str, catalog: Catalog) -> Ruler:
    """The ruler of a model: a registry name, a folder (of a tokenizer alone will do), or a hub id.

    Raises UsageError, OfflineError or SlmbenchError if its tokenizer isn't available.
    """
    source = _source(name, catalog)
    tokenizer = load_tokenizer(source)
    return Ruler(source.name, tokenizer, _context_tokens(name, source, tokenizer, catalog))


def percentile(lengths: Sequence[int], percent: float) -> int:
    """The smallest length that so many percent of them don't exceed. Raises ValueError if there are none."""
    if not lengths:
        raise ValueError("no lengths, so no percentile")
    return sorted(lengths)[max(0, math.ceil(len(lengths) * percent / 100) - 1)]


def _source(name: str, catalog: Catalog) -> ModelSource:
    holds = [file for file in ("tokenizer.json", "tokenizer.model") if os.path.isfile(os.path.join(name, file))]
    if holds and name not in catalog.files("models"):
        return ModelSource(os.path.basename(os.path.abspath(name)), shown(name), os.path.abspath(name))
    return resolve_model(name, catalog)


def _context_tokens(name: str, source: ModelSource, tokenizer: Tokenizer, catalog: Catalog) -> int | None:
    files = catalog.files("models")
    if name in files:
        declared = parse(ModelSpec, read_yaml(files[name])).context_tokens
        if declared is not None:
            return declared
    try:
        config = read_object(os.path.join(source.location, "config.json"))
        return int(next(config[key] for key in ("max_position_embeddings", "n_positions", "n_ctx") if key in config))
    except (SlmbenchError, OSError, ValueError, TypeError, StopIteration):
        limit = tokenizer.model_max_length
        return int(limit) if limit and limit < NO_LIMIT else None
