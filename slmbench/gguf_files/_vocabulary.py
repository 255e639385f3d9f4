"""A tokenizer in llama.cpp's terms. Source: llama.cpp, conversion/base.py and src/llama-vocab.cpp, as of 2026."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from attrs import frozen

from slmbench.errors import UsageError
from slmbench.gguf_files._cuts import known_cuts
from slmbench.values import Backend, JsonObject, Tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""llama.cpp's kinds of tokens."""

_BLANK = "\u2581"
_ADDED_SCORE, _UNUSED_SCORE = -1000.0, -10000.0


@frozen
class GgufVocabulary:
    """What a GGUF file says of a tokenizer.

    model: gpt2 (byte-level BPE) or llama (SentencePiece). pre: llama.cpp's name of how text is cut into words. tokens,
    kinds: one for each row of the embeddings. scores: of SentencePiece's pieces, by which pairs are joined, the highest
    first. merges: of byte-level BPE. ids: `eos` and others -> id. adds_bos: whether a text begins with BOS.
    adds_blank: whether a text begins with a blank; None where that isn't asked. template: the chat template.
    """

    model: str
    pre: str
    tokens: tuple[str, ...]
    kinds: tuple[int, ...]
    scores: tuple[float, ...]
    merges: tuple[str, ...]
    ids: dict[str, int]
    adds_bos: bool
    adds_blank: bool | None
    template: str | None


def vocabulary_of(
    tokenizer: Tokenizer,
    rows: int,
    *,
    template: str | None,
    begins_with_bos: bool,
    ends_turn: int | None = None,
    pre: str | None = None,
    of_file: bool = False,
) -> GgufVocabulary:
    """A transformers tokenizer as llama.cpp has it.

    rows: of the embeddings; those without a token get [PAD...]. template: as the model was trained. begins_with_bos:
    whether a bare text does.
    ends_turn: the id that ended turns in training. pre: by which name the file cuts that the tokenizer came from.
    of_file: whether it was read from a GGUF file of that many rows: ids beyond them are what transformers added.
    Raises UsageError, with what to do, for a tokenizer that llama.cpp has no kind of, and for one whose ids the
    embeddings don't have.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UsageError(f"the tokenizer is of a kind without tokenizer.json, and {_OTHERWISE}")
    state = json.loads(backend.to_str())
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= rows and not of_file:
        raise UsageError(
            f"the tokenizer has ids up to {highest}, but the model {rows} embeddings; use the base's own tokenizer, or "
            "resize the embeddings before training"
        )
    is_pieces = _is_sentencepiece(state)
    added = {int(token["id"]): token for token in state.get("added_tokens") or ()}
    tokens, kinds = _tokens(tokenizer, rows, added, is_pieces)
    scores = _scores(state, tokens, kinds) if is_pieces else ()
    merges = () if is_pieces else tuple(_merges(state))
    return GgufVocabulary(
        "llama" if is_pieces else "gpt2",
        "default" if is_pieces else _pre(backend, pre),
        tuple(tokens),
        tuple(kinds),
        scores,
        merges,
        {name: number for name, number in _ids(tokenizer, ends_turn).items() if number < rows},
        begins_with_bos,
        _adds_blank(state) if is_pieces else None,
        template,
    )


def write_vocabulary(writer: Any, said: GgufVocabulary) -> None:
    """Writes a vocabulary with gguf's writer."""
    writer.add_tokenizer_model(said.model)
    writer.add_tokenizer_pre(said.pre)
    writer.add_token_list(list(said.tokens))
    if said.scores:
        writer.add_token_scores(list(said.scores))
    writer.add_token_types(list(said.kinds))
    if said.merges:
        writer.add_token_merges(list(said.merges))
    for name, number in said.ids.items():
        getattr(writer, f"add_{name}_token_id")(number)
    writer.add_add_bos_token(said.adds_bos)
    if said.adds_blank is not None:
        writer.add_add_space_prefix(said.adds_blank)
    if said.template:
        writer.add_chat_template(said.template)


_OTHERWISE = (
    "no GGUF file says that; export with `--to merged`, or `--to gguf-ready` for what llama.cpp's own converter makes "
    "of it"
)


def _is_sentencepiece(state: JsonObject) -> bool:
    model = state.get("model") or {}
    kind = model.get("type")
    if kind == "BPE" and not model.get("byte_fallback") and _has(state.get("pre_tokenizer"), "ByteLevel"):
        return False
    if kind == "BPE" and model.get("byte_fallback") and _blanks(state):
        return True
    raise UsageError(
        f"the tokenizer is a {kind} that is neither byte-level nor of SentencePiece's kind with bytes for what it has "
        f"no piece of, and {_OTHERWISE}"
    )


def _pre(backend: Backend, given: str | None) -> str:
    known = [cuts.name for cuts in known_cuts(backend)]
    if given is not None and (given in known or not known):
        return given
    if not known:
        raise UsageError(f"the tokenizer cuts text into words as none of llama.cpp's ways does, and {_OTHERWISE}")
    return known[0]


def _tokens(
    tokenizer: Tokenizer, rows: int, added: dict[int, JsonObject], is_pieces: bool
) -> tuple[list[str], list[int]]:
    of_id = {number: piece for piece, number in tokenizer.get_vocab().items()}
    tokens, kinds = [], []
    for number in range(rows):
        token = of_id.get(number)
        if token is None:
            token, kind = f"[PAD{number}]", UNUSED
        elif number in added:
            kind = CONTROL if added[number]["special"] or _looks_special(token) else USER_DEFINED
            token = token if kind == CONTROL else token.replace(_BLANK, " ")
            if is_pieces and number == tokenizer.unk_token_id:
                kind = UNKNOWN
        elif is_pieces and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            kind = BYTE
        else:
            kind = UNKNOWN if is_pieces and number == tokenizer.unk_token_id else NORMAL
        tokens.append(token)
        kinds.append(kind)
    return tokens, kinds


def _looks_special(token: str) -> bool:
    # Marks of turns that a tokenizer has as plain added tokens: llama.cpp would look for them in what a person writes.
    return token in ("<pad>", "<mask>") or (token.startswith("<|") and token.endswith("|>"))


def _scores(state: JsonObject, tokens: Sequence[str], kinds: Sequence[int]) -> tuple[float, ...]:
    """The order in which merges make pieces, as scores: SentencePiece joins the pair whose piece has the highest."""
    made: dict[str, int] = {}
    for merge in state["model"]["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        made.setdefault(left + right, len(made))
    scores, rest = [], len(made)
    for token, kind in zip(tokens, kinds, strict=True):
        if kind == BYTE:
            scores.append(0.0)
        elif kind != NORMAL:
            scores.append(_UNUSED_SCORE if kind == UNUSED else _ADDED_SCORE)
        elif token in made:
            scores.append(-float(made[token]))
        else:
            scores.append(-float(rest))
            rest += 1
    return tuple(scores)


def _merges(state: JsonObject) -> list[str]:
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in state["model"]["merges"]]
    # The blank between the two is the only one that a line has.
    return [" ".join(side.replace(" ", "\u0120") for side in pair) for pair in pairs]


def _ids(tokenizer: Tokenizer, ends_turn: int | None) -> dict[str, int]:
    found = {name: getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "unk", "sep", "pad", "mask")}
    # llama.cpp stops at EOS and at the end of a turn.
    if ends_turn is not None and ends_turn != found["eos"]:
        found["eot"] = ends_turn
    return {name: int(number) for name, number in found.items() if number is not None}


def _adds_blank(state: JsonObject) -> bool:
    for step in _steps(state.get("pre_tokenizer")):
        if step.get("type") == "Metaspace":
            return bool(step.get("prepend_scheme", "always") != "never")
    return any(step.get("type") == "Prepend" for step in _steps(state.get("normalizer")))


def _blanks(state: JsonObject) -> bool:
    """Whether a tokenizer writes SentencePiece's mark for a blank."""
    if _has(state.get("pre_tokenizer"), "Metaspace"):
        return True
    return any(step.get("type") == "Replace" and step.get("content") == _BLANK for step in _steps(state["normalizer"]))


def _has(part: JsonObject | None, kind: str) -> bool:
    return any(step.get("type") == kind for step in _steps(part))


def _steps(part: JsonObject | None) -> list[JsonObject]:
    """A part of a tokenizer, or the parts that it is a sequence of."""
    if not part:
        return []
    inner = part.get("pretokenizers") or part.get("normalizers")
    return list(inner) if isinstance(inner, list) else [part]
