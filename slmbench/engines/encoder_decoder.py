"""What is different if the model is an encoder-decoder: its room, and how lm-eval has it write."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from slmbench.formats import decoder_ids
from slmbench.models import LoadedModel
from slmbench.values import JsonObject, Model, Tensor, Tokenizer

LM_EVALS_DEFAULT = 2048
NO_LIMIT = 10**9
"""What a tokenizer names for its length is none from here on."""


def encoder_tokens(loaded: LoadedModel) -> int:
    """How many tokens an encoder-decoder's encoder is given at most.

    What is declared rules, up to the number of learnt positions where a model has those (BART). T5's positions are
    relative: its `n_positions` is what it was trained with, no bound.
    """
    config = loaded.model.config
    learnt = getattr(config, "max_position_embeddings", None)
    declared = loaded.source.context_tokens
    known = [int(tokens) for tokens in (declared, learnt) if tokens]
    if known:
        return min(known)
    trained_with = getattr(config, "n_positions", None) or loaded.tokenizer.model_max_length
    return int(trained_with) if trained_with < NO_LIMIT else LM_EVALS_DEFAULT


def decoder_tokens(loaded: LoadedModel) -> int | None:
    """How many tokens an encoder-decoder can write; None where there is no bound, as with T5's relative positions."""
    # The start token takes a position, the last token none: it is never read.
    learnt = getattr(loaded.model.config, "max_position_embeddings", None)
    return int(learnt) if learnt else None


def can_write(tokenizer: Tokenizer, text: str) -> bool:
    """Whether a decoder could write a text: T5's tokenizer has neither line breaks nor braces."""
    ids = decoder_ids(tokenizer, text)
    unknown = tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids
    return not unknown and ("\n" not in text.strip() or "\n" in tokenizer.decode(ids))


@contextlib.contextmanager
def ties_left_alone(model: Model) -> Iterator[None]:
    """For the length of the block, `model.tie_weights()` does nothing.

    HFLM calls it on whatever model it is given. transformers 5 takes every T5 for one whose head is its embedding, and
    loads the head of those that have their own (T5 1.1, FLAN-T5) only because it is in the file: tied once more, such a
    model has lost its head, for this evaluation and for a training after it.
    """
    model.tie_weights = lambda *_, **__: None
    try:
        yield
    finally:
        del model.tie_weights


def decode(
    model: Model, tokenizer: Tokenizer, encoder_ids: Tensor, max_new_tokens: int, stop: list[str], settings: JsonObject
) -> Tensor:
    """The decoder's ids, the start token's first, (batch, seq).

    lm-eval takes the encoder's length for a prompt that stands before the answer: an answer would get as many tokens
    more as the longest prompt of its batch has, and stop strings would be looked for behind those alone.
    """
    from lm_eval.models.utils_hf import stop_sequences_criteria

    settings = dict(settings)
    if not settings.get("do_sample"):
        settings["do_sample"] = False
        settings.pop("temperature", None)
    criteria = stop_sequences_criteria(tokenizer, stop, 1, encoder_ids.shape[0])
    return model.generate(
        input_ids=encoder_ids,
        max_new_tokens=max_new_tokens,
        stopping_criteria=criteria,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
        **settings,
    )
