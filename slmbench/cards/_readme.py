"""Whose a README.md is: the card command's own, as it left it; nobody's; or somebody's, which is kept."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Literal

from slmbench.foreign import read_bytes

Owner = Literal["nobody", "card", "edited", "somebody"]
_MARK = re.compile(r"<!-- slmbench card ([0-9a-f]{64}); an edited card is kept -->\n")
_MOST_BYTES = 8_000_000
_HEAD = re.compile(r"\s*---\r?\n.*?\r?\n---[ \t]*(?:\r?\n|$)", re.DOTALL)
_MORE_OF_PEFT = re.compile(
    r"- PEFT \S+|#+ Framework versions|#+ Training procedure|The following `bitsandbytes` quantization config was .*|"
    r"- _?(?:load_in|llm_int8|bnb_4bit|quant_method)\w*: .*"
)


def marked(head: str, body: str) -> str:
    """A card of a head and a body, with a mark between that says who wrote it, and of what."""
    return f"---\n{head}\n---\n<!-- slmbench card {_digest(head, body)}; an edited card is kept -->\n{body}"


def owner_of(path: Path) -> Owner:
    """Whose a README.md is. Raises FileError for one that can't be read."""
    try:
        text = read_bytes(path, _MOST_BYTES).decode("utf-8", errors="replace").replace("\r\n", "\n")
    except FileNotFoundError:
        return "nobody"
    found = _MARK.search(text)
    if found is not None:
        head = text[: found.start()].removeprefix("---\n").removesuffix("\n---\n")
        return "card" if _digest(head, text[found.end() :]) == found[1] else "edited"
    return "nobody" if _is_template(text) else "somebody"


def _digest(head: str, body: str) -> str:
    return hashlib.sha256(f"{head}\n\0\n{body}".encode()).hexdigest()


def _is_template(text: str) -> bool:
    """Whether it is what peft leaves beside an adapter: huggingface_hub's template, in which nobody has written."""
    from huggingface_hub import ModelCard, ModelCardData

    body = _HEAD.sub("", text, count=1)
    empty = {line.strip() for line in ModelCard.from_template(ModelCardData()).text.split("\n")}
    lines = [line.strip() for line in body.split("\n")]
    return all(not line or line in empty or _MORE_OF_PEFT.fullmatch(line) for line in lines)
