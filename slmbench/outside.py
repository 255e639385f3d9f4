"""Names for values of other libraries, which are imported only where they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object as a file or another library has it: values of any kind, looked at where they are used."""
Backend: TypeAlias = Any
"""A tokenizer of `tokenizers`, or a part of one."""
Tensor: TypeAlias = Any
"""A torch tensor, or several; the shape stands where it appears."""
Array: TypeAlias = Any
"""A numpy array; the shape stands where it appears."""
Model: TypeAlias = Any
"""A torch module: a transformers model, one with adapters around it, or a part of it."""
Config: TypeAlias = Any
"""A transformers config: its attributes are those of its family."""


class Tokenizer(Protocol):
    """A transformers tokenizer: what is asked of one here."""

    name_or_path: str
    chat_template: str | None
    backend_tokenizer: Any
    model_max_length: int
    padding_side: str
    bos_token: str | None
    bos_token_id: int | None
    eos_token: str | None
    eos_token_id: int | None
    pad_token: str | None
    pad_token_id: int | None
    sep_token_id: int | None
    cls_token_id: int | None
    unk_token_id: int | None
    special_tokens_map: Mapping[str, Any]
    all_special_ids: Sequence[int]
    is_fast: bool
    _add_eos_token: bool

    def __len__(self) -> int: ...
    def __call__(self, text: str | Sequence[str], **options: Any) -> Any: ...
    def encode(self, text: str, **options: Any) -> list[int]: ...
    def decode(self, token_ids: Any, **options: Any) -> str: ...
    def convert_ids_to_tokens(self, ids: Any) -> Any: ...
    def convert_tokens_to_ids(self, tokens: Any) -> Any: ...
    def get_vocab(self) -> dict[str, int]: ...
    def get_chat_template(self) -> str: ...
    def apply_chat_template(self, conversation: Any, **options: Any) -> Any: ...
    def save_pretrained(self, save_directory: str) -> object: ...
