"""A tokenizer as a model's prompts need it: nothing cut, nothing padded, and nothing put behind a prompt."""

from __future__ import annotations

import copy
import json

from slmbench.errors import UsageError
from slmbench.paths import shown
from slmbench.values import JsonObject, Tokenizer


def take_lengths_off(tokenizer: Tokenizer) -> None:
    """Switches off the truncation and padding that a tokenizer.json was saved with.

    They are left from somebody's last call, and no part of what a tokenizer is.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()


def closing_tokens(tokenizer: Tokenizer) -> list[str]:
    """The special tokens that a tokenizer puts behind every text by itself, as EOS."""
    bare = list(tokenizer.encode("a", add_special_tokens=False))
    whole = list(tokenizer.encode("a"))
    for start in range(len(whole) - len(bare) + 1):
        if bare and whole[start : start + len(bare)] == bare:
            return [str(token) for token in tokenizer.convert_ids_to_tokens(whole[start + len(bare) :])]
    return []


def left_open(tokenizer: Tokenizer) -> tuple[Tokenizer, list[str]]:
    """(a tokenizer for a causal model, what a person should know of it).

    The same one where it closes no text; else one like it that doesn't. Raises UsageError if it can't be changed.
    """
    closing = closing_tokens(tokenizer)
    if not closing:
        return tokenizer, []
    said = " ".join(closing)
    tokenizer = copy.deepcopy(tokenizer)  # It may be the caller's.
    _leave_texts_open(tokenizer)
    if closing_tokens(tokenizer):
        raise UsageError(
            f"the tokenizer of {shown(str(tokenizer.name_or_path))} puts {said} after every text, so no answer "
            "could follow a prompt, and that can't be switched off here; save it with add_eos_token false"
        )
    return tokenizer, [f"the tokenizer puts {said} after every text; left out, as an answer goes on from its prompt"]


def _leave_texts_open(tokenizer: Tokenizer) -> None:
    """Has a tokenizer put no special token behind a text any more; those before it stay."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.post_processor is None:
        return
    tokenizer._add_eos_token = False  # Else the closing is made anew with every special token that is set.
    state = json.loads(backend.post_processor.__getstate__())
    backend.post_processor = _made_of(_opened(state))


def _opened(state: JsonObject) -> JsonObject:
    kind = state.get("type")
    if kind == "Sequence":
        return state | {"processors": [_opened(one) for one in state["processors"]]}
    if kind == "TemplateProcessing":
        return state | {"single": _without_end(state["single"]), "pair": _without_end(state["pair"])}
    if kind in ("BertProcessing", "RobertaProcessing"):
        name, number = state["cls"]
        text = [{"SpecialToken": {"id": name, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
        special = {name: {"id": name, "ids": [number], "tokens": [name]}}
        pair = [*text, {"Sequence": {"id": "B", "type_id": 1}}]
        return {"type": "TemplateProcessing", "single": text, "pair": pair, "special_tokens": special}
    return state


def _without_end(pieces: list[JsonObject]) -> list[JsonObject]:
    kept = list(pieces)
    while kept and "SpecialToken" in kept[-1]:
        kept.pop()
    return kept


def _made_of(state: JsonObject) -> object:
    """A post-processor of `tokenizers`, which reads its JSON only as a part of a whole tokenizer."""
    from tokenizers import Tokenizer

    parts = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "decoder"))
    whole: dict[str, object] = {
        "version": "1.0",
        "added_tokens": [],
        **parts,
        "model": {"type": "BPE", "vocab": {}, "merges": []},
    }
    return Tokenizer.from_str(json.dumps(whole | {"post_processor": state})).post_processor
