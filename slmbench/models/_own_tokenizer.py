"""The tokenizer that an adapter was trained with, where its folder has one that isn't the base's."""

from __future__ import annotations

import copy
import json
import os

from slmbench.errors import FileError, UsageError
from slmbench.foreign import read_json
from slmbench.models._adapters import AdapterInfo
from slmbench.models._tokenizer import left_open, take_lengths_off
from slmbench.paths import shown
from slmbench.values import Model, Tokenizer

_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_TEMPLATE = "chat_template.jinja"
_PROBES = (
    "Hello, world!",
    " 12 + 7 = 19\n\tdef f(x):\n",
    "\u00dcber na\u00efve \u65e5\u672c\u8a9e \U0001f600",
    "a  b\n\n\nc ",
)


def own_tokenizer(info: AdapterInfo, base: Model, *, seq2seq: bool = False) -> tuple[Tokenizer, list[str]]:
    """(the tokenizer that an adapter's prompts are made with, what a person should know of it).

    The base's own object where the folder has none, or one that cuts, ends and lays out texts in the same way. Raises
    UsageError if the folder's can't be loaded.
    """
    found = _in_folder(info, base)
    if found is None:
        return base, []
    take_lengths_off(found)
    notices: list[str] = []
    if not seq2seq:
        found, notices = left_open(found)
    differs = _differences(found, base)
    if not differs:
        return base, []
    if found.pad_token_id is None and found.eos_token_id is not None:
        found.pad_token = found.eos_token
    told = f"adapter {info.name!r} has a tokenizer of its own, which its prompts are made with: {', '.join(differs)}"
    return found, [told, *notices]


def _in_folder(info: AdapterInfo, base: Tokenizer) -> Tokenizer | None:
    there = set(os.listdir(info.folder))
    if not there & set(_VOCABULARIES):
        if _TEMPLATE not in there:
            return None
        path = os.path.join(info.folder, _TEMPLATE)
        found = copy.deepcopy(base)
        with open(path, encoding="utf-8", errors="replace") as file:
            found.chat_template = file.read(1_000_000)
        return found
    import transformers

    transformers.logging.set_verbosity_error()
    try:
        own: Tokenizer = transformers.AutoTokenizer.from_pretrained(
            info.folder, local_files_only=True, trust_remote_code=False
        )
        return own
    except Exception as error:  # A stranger's files reach all of the tokenizers' code.
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise UsageError(
            f"adapter {shown(info.folder)} has a tokenizer of its own that can't be loaded: {said}; save it again "
            "where it was made, or remove its files from the folder to use the base's"
        ) from error


def _differences(own: Tokenizer, base: Tokenizer) -> list[str]:
    """What of the two a prompt or an answer would show."""
    found = []
    ours, theirs = own.get_vocab(), base.get_vocab()
    added = sorted((number, token) for token, number in ours.items() if theirs.get(token) != number)
    pads = {own.pad_token} - {base.eos_token, None}
    if [token for _, token in added if token not in pads] or set(theirs) - set(ours):
        name = json.dumps(added[0][1], ensure_ascii=False) if added else "fewer"
        found.append(f"another vocabulary ({len(ours):,} tokens instead of {len(theirs):,}, such as {name})")
    for name in ("eos", "bos"):
        if getattr(own, f"{name}_token") != getattr(base, f"{name}_token"):
            found.append(f"{name.upper()} {getattr(own, f'{name}_token')} instead of {getattr(base, f'{name}_token')}")
    if not found and any(own.encode(text) != base.encode(text) for text in _PROBES):
        found.append("another way to cut texts")
    if (own.chat_template or base.chat_template) != base.chat_template:
        found.append("another chat template" if base.chat_template else "a chat template")
    elif found and not own.chat_template and base.chat_template:
        own.chat_template = base.chat_template
    return found


def has_template(folder: str) -> bool:
    """Whether a chat template lies in a folder, in a file of its own or in the tokenizer's config."""
    if os.path.isfile(os.path.join(folder, _TEMPLATE)):
        return True
    try:
        said = read_json(os.path.join(folder, "tokenizer_config.json"))
    except (OSError, FileError):
        return False
    return isinstance(said, dict) and bool(said.get("chat_template"))


def unembedded(tokenizer: Tokenizer, rows: int) -> list[tuple[int, str]]:
    """(id, token) of those that a model with so many embeddings has none of; padding aside, which is never looked at.

    A padding token without an embedding is exchanged for EOS.
    """
    beyond = sorted((number, token) for token, number in tokenizer.get_vocab().items() if number >= rows)
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id >= rows and tokenizer.eos_token_id is not None:
        beyond = [(number, token) for number, token in beyond if number != tokenizer.pad_token_id]
        if tokenizer.eos_token_id < rows:
            tokenizer.pad_token = tokenizer.eos_token
    return beyond
