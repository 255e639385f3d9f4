"""A model's folder as somebody else may have made it: its files are looked at before transformers acts on them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from attrs import frozen
from pydantic import AfterValidator, ConfigDict, Field

from slmbench.errors import FileError, Problem
from slmbench.foreign import Foreign, Limits, faults, parse, read_json, read_object
from slmbench.models._adapter_files import BITS
from slmbench.paths import shown
from slmbench.values import JsonObject

HEADER_BYTES = 100_000_000
"""Of a safetensors file's header, as its format bounds it."""
_INDEX = "model.safetensors.index.json"
_WHOLE = "model.safetensors"
_WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_TODO = "take the model's own files again"
_LIMITS = Limits(bytes=64_000_000, infinity=True)
# Masks and positions that older models keep with their weights.
_KEPT_BUFFERS = ("attn.bias", "masked_bias", "position_ids", "inv_freq")

Size = Annotated[int, Field(ge=1, le=10**9)]
Sizes = Size | list[Size] | None
Id = Annotated[int, Field(ge=-1, le=10**9)]
Ids = Id | Annotated[list[Id], Field(min_length=1)] | None
Number = Annotated[float, Field(ge=-(10**12), le=10**12)]
Count = Annotated[int, Field(ge=0, le=10**9)]
Positive = Annotated[float, Field(gt=0, le=10**12)]
Dropout = Annotated[float, Field(ge=0, le=1)]


class _File(Foreign):
    # What is unknown here is transformers' to judge.
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, extra="allow")


def _turned(value: JsonObject | None) -> JsonObject | None:
    """Rotations of positions, of all layers or by kind of layer."""
    if value is None:
        return None
    parts = list(value.values()) if value and all(isinstance(one, dict) for one in value.values()) else [value]
    for part in parts:
        kind = part.get("rope_type", part.get("type"))
        if not isinstance(kind, str):
            raise ValueError("an object with rope_type, a text")
        for name in ("rope_theta", "factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"):
            given = part.get(name)
            if given is not None and not (type(given) in (int, float) and 0 < given <= 10**12):
                raise ValueError(f"an object whose {name} is a number above 0")
    return value


Rope = Annotated[dict[str, Any] | None, AfterValidator(_turned)]


class ConfigFile(_File):
    """config.json, as far as what is computed hangs on it."""

    model_type: str | None = None
    architectures: list[str] | None = None
    is_encoder_decoder: bool | None = None
    vocab_size: Size | None = None
    hidden_size: Sizes = None
    intermediate_size: Sizes = None
    num_hidden_layers: Annotated[int, Field(ge=1, le=1_000)] | None = None
    num_attention_heads: Sizes = None
    num_key_value_heads: Sizes = None
    head_dim: Size | None = None
    max_position_embeddings: Size | None = None
    sliding_window: Count | None = None
    rms_norm_eps: Positive | None = None
    layer_norm_eps: Positive | None = None
    layer_norm_epsilon: Positive | None = None
    attention_dropout: Dropout | None = None
    initializer_range: Number | None = None
    rope_theta: Positive | dict[str, Any] | None = None
    rope_parameters: Rope = None
    rope_scaling: Rope = None
    tie_word_embeddings: bool | None = None
    dtype: str | dict[str, Any] | None = None
    torch_dtype: str | dict[str, Any] | None = None
    bos_token_id: Id | None = None
    eos_token_id: Ids = None
    pad_token_id: Id | None = None
    decoder_start_token_id: Ids = None
    quantization_config: dict[str, Any] | None = None
    use_cache: bool | None = None
    auto_map: dict[str, Any] | None = None


class GenerationFile(_File):
    """generation_config.json: where texts end, and how tokens are drawn."""

    bos_token_id: Id | None = None
    eos_token_id: Ids = None
    pad_token_id: Id | None = None
    decoder_start_token_id: Ids = None
    forced_bos_token_id: Ids = None
    forced_eos_token_id: Ids = None
    do_sample: bool | None = None
    use_cache: bool | None = None
    temperature: Number | None = None
    top_k: Count | None = None
    top_p: Number | None = None
    min_p: Number | None = None
    typical_p: Number | None = None
    repetition_penalty: Number | None = None
    length_penalty: Number | None = None
    no_repeat_ngram_size: Count | None = None
    num_beams: Size | None = None
    num_return_sequences: Size | None = None
    max_length: Count | None = None
    max_new_tokens: Count | None = None
    min_length: Count | None = None
    min_new_tokens: Count | None = None
    suppress_tokens: list[Id] | None = None
    begin_suppress_tokens: list[Id] | None = None
    bad_words_ids: list[list[Id]] | None = None
    output_attentions: bool | None = None
    output_hidden_states: bool | None = None
    output_scores: bool | None = None
    return_dict_in_generate: bool | None = None


class AddedToken(_File):
    """A special token with how it is cut out of a text."""

    content: str
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    single_word: bool = False
    special: bool = False


Token = str | AddedToken | None


class NamedTemplate(_File):
    """One of several chat templates."""

    name: str
    template: str


class SpecialTokens(_File):
    """special_tokens_map.json."""

    bos_token: Token = None
    eos_token: Token = None
    unk_token: Token = None
    sep_token: Token = None
    pad_token: Token = None
    cls_token: Token = None
    mask_token: Token = None
    additional_special_tokens: list[Token] | dict[str, Token] | None = None
    extra_special_tokens: list[Token] | dict[str, Token] | None = None


class TokenizerFile(SpecialTokens):
    """tokenizer_config.json."""

    tokenizer_class: str | None = None
    backend: str | None = None
    add_bos_token: bool | None = None
    add_eos_token: bool | None = None
    add_prefix_space: bool | None = None
    clean_up_tokenization_spaces: bool | None = None
    split_special_tokens: bool | None = None
    legacy: bool | None = None
    model_max_length: Annotated[float, Field(gt=0)] | None = None
    padding_side: Literal["left", "right"] | None = None
    truncation_side: Literal["left", "right"] | None = None
    chat_template: str | list[NamedTemplate] | dict[str, str] | None = None
    added_tokens_decoder: dict[str, AddedToken] | None = None
    auto_map: dict[str, Any] | None = None


class IndexFile(_File):
    """model.safetensors.index.json: which tensor is in which file."""

    weight_map: Annotated[dict[str, str], Field(min_length=1)]


class TensorHead(Foreign):
    """What a safetensors file says of one tensor."""

    dtype: str
    shape: list[Annotated[int, Field(ge=0, le=2**48)]]
    data_offsets: Annotated[list[Annotated[int, Field(ge=0, le=2**56)]], Field(min_length=2, max_length=2)]


@frozen
class TensorPlace:
    """Where a tensor lies. dtype: as safetensors names it. start, end: of its bytes in the file."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


FILES: dict[str, type[_File]] = {
    "config.json": ConfigFile,
    "generation_config.json": GenerationFile,
    "tokenizer_config.json": TokenizerFile,
    "special_tokens_map.json": SpecialTokens,
}


@frozen
class Stored:
    """The tensors of a folder: name -> dtype, as safetensors names it. sides: the lengths that they have."""

    dtypes: Mapping[str, str]
    sides: frozenset[int] = frozenset()

    @property
    def packed(self) -> list[str]:
        """The names of those that are packed into few bits, with what their numbers stand for kept beside them."""
        return sorted(
            name for name, dtype in self.dtypes.items() if dtype not in _WIDTHS and not name.endswith(_KEPT_BUFFERS)
        )


def check_files(folder: str) -> None:
    """Raises FileError, with all faults, where a JSON file of a model's folder isn't what it has to be."""
    problems: list[Problem] = []
    for name, model in FILES.items():
        path = os.path.join(folder, name)
        if os.path.lexists(path):
            problems += _problems_of(lambda path=path, model=model: parse(model, _object(path), path))  # type: ignore[misc]
    if problems:
        raise FileError(problems, _TODO)


def asked_by(error: BaseException, settings: Mapping[str, object]) -> str:
    """`, the value of hidden_act`: which settings ask for what a table of transformers lacks; '' for other errors."""
    names = [name for name, value in settings.items() if isinstance(error, KeyError) and error.args == (value,)]
    return f", the value of {' and '.join(names)}" if names else ""


def check_json(path: str) -> None:
    """Raises FileError if a large file of a model's folder is not a sound JSON object."""
    read_object(path, Limits(bytes=HEADER_BYTES), todo=_TODO)


def stored_tensors(folder: str) -> Stored | None:
    """The tensors of a model's folder, from its files' headers alone; None if it has no safetensors.

    Raises what `placed_tensors` raises.
    """
    found = placed_tensors(folder)
    if found is None:
        return None
    sides = frozenset(side for place in found.values() for side in place.shape)
    return Stored({name: place.dtype for name, place in found.items()}, sides)


def placed_tensors(folder: str) -> dict[str, TensorPlace] | None:
    """Where each tensor of a model's folder lies, from its files' headers alone; None if it has no safetensors.

    Raises FileError for an index that names other places or missing files, and for files that were cut off.
    """
    index = os.path.join(folder, _INDEX)
    whole = os.path.join(folder, _WHOLE)
    if os.path.lexists(whole):  # As transformers prefers it.
        return file_tensors(whole)
    if not os.path.lexists(index):
        return None
    places = parse(IndexFile, read_json(index, Limits(bytes=HEADER_BYTES), todo=_TODO), index, todo=_TODO).weight_map
    odd = [
        (f"weight_map.{name}", file, "the name of a file beside the index")
        for name, file in places.items()
        if _leads_away(file)
    ]
    if odd:
        raise faults(index, odd[:20], todo=_TODO)
    missing = sorted({file for file in places.values() if not os.path.isfile(os.path.join(folder, file))})
    if missing:
        names = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise FileError([Problem(shown(index), 0, 0, f"names files that do not exist: {names}")], "copy them too")
    found: dict[str, TensorPlace] = {}
    for file in sorted(set(places.values())):
        found |= file_tensors(os.path.join(folder, file))
    lacking = sorted(set(places) - set(found))
    if lacking:
        said = f"names {len(lacking)} tensors that are in none of its files, such as {lacking[0][:80]!r}"
        raise FileError([Problem(shown(index), 0, 0, said)], _TODO)
    return found


def file_tensors(path: str) -> dict[str, TensorPlace]:
    """Where each tensor lies in a safetensors file. Raises FileError if it is cut off or says odd things."""
    from slmbench.foreign import decode_json

    def refuse(said: str) -> FileError:
        return FileError([Problem(shown(path), 0, 0, said)], _TODO)

    try:
        size = os.stat(path).st_size
        with open(path, "rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            if size < 8 or header_bytes > min(size - 8, HEADER_BYTES):
                raise refuse(
                    f"ends after {size:,} bytes, inside its header; it was cut off, or is not a safetensors file"
                )
            header = file.read(header_bytes)
    except OSError as error:
        raise refuse(f"can't be read: {error.strerror or error}") from error
    value = decode_json(header.rstrip(b" "), path, Limits(bytes=HEADER_BYTES), todo=_TODO)
    if not isinstance(value, dict):
        raise refuse("has a header that is not an object")
    value.pop("__metadata__", None)
    heads = {name: parse(TensorHead, one, path, at=name[:80], todo=_TODO) for name, one in value.items()}
    end = max((head.data_offsets[1] for head in heads.values()), default=0)
    if size != 8 + header_bytes + end:
        raise refuse(f"has {size:,} bytes instead of {8 + header_bytes + end:,}; it was cut off")
    for name, head in heads.items():
        bits = BITS.get(head.dtype)
        first, last = head.data_offsets
        if bits is not None and (last - first) * 8 != math.prod(head.shape) * bits:
            raise refuse(f"says that {name[:80]!r} is {head.dtype} of shape {head.shape}, in {last - first:,} bytes")
    at = 8 + header_bytes
    return {
        name: TensorPlace(path, head.dtype, tuple(head.shape), at + head.data_offsets[0], at + head.data_offsets[1])
        for name, head in heads.items()
    }


def _leads_away(file: str) -> bool:
    return file != os.path.basename(file) or file in ("", ".", "..") or "\0" in file or "\\" in file


def _object(path: str) -> object:
    return read_json(path, _LIMITS, todo=_TODO)


def _problems_of(read: Callable[[], object]) -> list[Problem]:
    try:
        read()
    except FileError as error:
        return list(error.problems)
    except FileNotFoundError as error:
        return [Problem(shown(str(error.filename)), 0, 0, "leads to a file that does not exist")]
    return []
