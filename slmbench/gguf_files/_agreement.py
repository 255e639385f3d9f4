"""Whether llama.cpp would cut texts into the ids that a tokenizer gives: its rules, followed here.

Source: llama.cpp, src/llama-vocab.cpp, as it was in 2026.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from slmbench.gguf_files._cuts import CUTS, HARD_TEXTS, with_cuts
from slmbench.gguf_files._vocabulary import NORMAL, USER_DEFINED, GgufVocabulary
from slmbench.values import Tokenizer

_BLANK = "\u2581"


def otherwise_cut(tokenizer: Tokenizer, said: GgufVocabulary, texts: Sequence[str] = HARD_TEXTS) -> list[str]:
    """Those of the texts whose ids llama.cpp would have otherwise, and the first of them after a special token.

    The tokenizer's own ids are those that a model was trained on. A way to cut that isn't known here tells nothing.
    """
    backend = tokenizer.backend_tokenizer
    if said.model == "gpt2":
        cuts = next((cuts for cuts in CUTS if cuts.name == said.pre), None)
        if cuts is None:
            return []
        theirs = with_cuts(backend, cuts)
        return [
            text
            for text in texts
            if backend.encode(text, add_special_tokens=False).ids != theirs.encode(text, add_special_tokens=False).ids
        ]
    found = [text for text in texts if backend.encode(text, add_special_tokens=False).ids != piece_ids(said, text)]
    end = tokenizer.eos_token
    if end is not None and tokenizer.eos_token_id is not None and texts:
        text = f"{end}{texts[0]}"
        ids = [tokenizer.eos_token_id, *piece_ids(said, texts[0])]
        found += [text] if backend.encode(text, add_special_tokens=False).ids != ids else []
    return found


def piece_ids(said: GgufVocabulary, text: str) -> list[int]:
    """A text without special tokens in SentencePiece's pieces, as llama.cpp joins them: the best neighbours first."""
    if not text:
        return []
    text = (" " if said.adds_blank else "") + text
    usable = {token: i for i, token in enumerate(said.tokens) if said.kinds[i] in (NORMAL, USER_DEFINED)}
    parts: list[str | None] = list(text.replace(" ", _BLANK))
    following, before = list(range(1, len(parts) + 1)), list(range(-1, len(parts) - 1))
    queue: list[tuple[float, int, int, str]] = []

    def offer(left: int, right: int) -> None:
        if left < 0 or right >= len(parts):
            return
        joined = f"{parts[left]}{parts[right]}"
        if joined in usable:
            heapq.heappush(queue, (-said.scores[usable[joined]], left, right, joined))

    for i in range(1, len(parts)):
        offer(i - 1, i)
    while queue:
        _, left, right, joined = heapq.heappop(queue)
        # One of the two was joined with another since.
        if parts[left] is None or parts[right] is None or f"{parts[left]}{parts[right]}" != joined:
            continue
        parts[left], parts[right] = joined, None
        following[left] = following[right]
        if following[right] < len(parts):
            before[following[right]] = left
        offer(before[left], left)
        offer(left, following[left])
    ids: list[int] = []
    of_byte = {token: i for i, token in enumerate(said.tokens)}
    for part in parts:
        if part is None:
            continue
        if part in usable:
            ids.append(usable[part])
        else:
            ids += [of_byte.get(f"<0x{byte:02X}>", said.ids.get("unk", 0)) for byte in part.encode()]
    return ids
