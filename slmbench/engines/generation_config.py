"""What a model's `generation_config.json` says of its texts, and how it is kept from having a say in them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator
from typing import Any

from slmbench.values import JsonObject, Model, Tokenizer

# Of these a text has need, however it is decoded.
_KEPT = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
)
# How much is written and in which form is asked for; what the file says of it would cut texts, or break them.
_NEVER = (
    "max_length",
    "max_new_tokens",
    "max_time",
    "stop_strings",
    "num_return_sequences",
    "return_dict_in_generate",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "prompt_lookup_num_tokens",
    "token_healing",
    "cache_implementation",
    "use_cache",
)
# What a model's file may say that changes which token comes next. Ids of special tokens are none of it.
SURPRISES = (
    "repetition_penalty",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "top_h",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "suppress_tokens",
    "begin_suppress_tokens",
    "bad_words_ids",
    "sequence_bias",
    "min_length",
    "min_new_tokens",
    "num_beams",
    "guidance_scale",
    "num_beam_groups",
    "diversity_penalty",
    "penalty_alpha",
    "dola_layers",
    "force_words_ids",
    "renormalize_logits",
)
DEFAULT_TOP_K = 50
"""From how many tokens transformers' `generate` draws, and with it lm-eval, if neither task nor file says it."""
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "repetition_penalty": (1.0,),
    "temperature": (1.0, 0.0),
    "top_k": (0,),
    "top_p": (1.0,),
    "min_p": (0.0,),
    "typical_p": (1.0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "diversity_penalty": (0.0,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1.0,),
    "guidance_scale": (1.0,),
    "penalty_alpha": (0.0,),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "renormalize_logits": (False,),
}


def surprises_of(generation_config: object, *, drawn: bool = False) -> JsonObject:
    """What a model's `generation_config.json` says that changes which token comes next.

    drawn: of texts that are drawn, from so many tokens as is usual if nothing is said: `top_k: 0`, all, is a change.
    """
    neutral = NEUTRAL | ({"top_k": (DEFAULT_TOP_K,)} if drawn else {})
    found = {}
    for name in SURPRISES:
        value = getattr(generation_config, name, None)
        if value is not None and value not in neutral.get(name, ()):
            found[name] = value
    return found


def own_say(generation_config: object, given: JsonObject) -> JsonObject:
    """What a model's file says of the next token, and whether that counts (`counts`); {} if it says nothing.

    given: how the texts are asked for, as lm-eval has it; what it sets itself the file has no say in. If anything
    counts, it alone is named.
    """
    found = surprises_of(generation_config)
    if not given.get("do_sample"):
        return {"counts": False, **found} if found else {}
    drawn = surprises_of(generation_config, drawn=True)
    counting = {name: value for name, value in drawn.items() if given.get(name) is None}
    return {"counts": bool(counting), **(counting or found)} if counting or found else {}


def end_ids(model: Model, tokenizer: Tokenizer) -> frozenset[int]:
    """The tokens that end a text: each EOS of the model's file, and the tokenizer's."""
    said = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = list(said) if isinstance(said, list | tuple) else [said]
    return frozenset(int(one) for one in (*listed, tokenizer.eos_token_id) if one is not None)


@contextlib.contextmanager
def tamed(holders: Iterable[Model], *, sampled: bool) -> Iterator[None]:
    """For the length of the block, nothing of models' files changes which token comes next, but for drawn texts.

    holders: what has a `generation_config`. Of drawn texts, what the file says of drawing counts.
    """
    from transformers import GenerationConfig

    kept = [(holder, holder.generation_config) for holder in {id(one): one for one in holders}.values()]
    for holder, config in kept:
        if sampled:
            tame = copy.deepcopy(config)
            for name in _NEVER:
                setattr(tame, name, None)
        else:
            tame = GenerationConfig(**{name: getattr(config, name, None) for name in _KEPT})
        holder.generation_config = tame
    try:
        yield
    finally:
        for holder, config in kept:
            holder.generation_config = config
