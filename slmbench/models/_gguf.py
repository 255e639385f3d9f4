"""A GGUF file as a model: dequantised once into a folder of the cache, which is then loaded like any other."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from attrs import frozen
from pydantic import Field

from slmbench.console import phase, say
from slmbench.errors import FileError, SlmbenchError, UsageError
from slmbench.files import built_once, disk_errors, file_sha256, need_room, write_json
from slmbench.foreign import Count, Foreign, Limits, SchemaOne, read_model, read_object
from slmbench.models._gguf_head_checks import check_head, check_whole, packed_numbers, packing_of, scaled_rotation
from slmbench.models._gguf_header import GgufHead, read_gguf_head
from slmbench.models._gguf_tokenizer import set_cuts
from slmbench.paths import cache_dir, shown
from slmbench.values import JsonObject, Model, Tensor

SUFFIX = ".gguf"
MANIFEST = "gguf.json"
_SHARD_BYTES = 4 * 10**9
_LIMITS = Limits(bytes=64_000_000, surrogates=True)


class _File(Foreign):
    """sha256: None of weights, which are held to their size."""

    bytes: Count
    sha256: str | None


class _Manifest(Foreign):
    """What was written into a folder, and what a person should know of it."""

    version: SchemaOne = Field(alias="schema")
    notices: list[str]
    files: dict[str, _File] = Field(min_length=1)


@frozen
class GgufFolder:
    """A file's folder in transformers' layout. notices: what a person should know of how it was read."""

    folder: str
    notices: tuple[str, ...]


def is_gguf(path: str) -> bool:
    """Whether a model that is given is a GGUF file, by its name or, of a file, by how it begins."""
    if path.lower().endswith(SUFFIX):
        return os.path.isfile(path) or not os.path.isdir(path)
    with contextlib.suppress(OSError):
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return file.read(4) == b"GGUF"
    return False


def gguf_folder(path: str) -> GgufFolder:
    """The folder that a GGUF file was dequantised into; made where it is missing or damaged, which is said.

    It lies in the cache, under a name made of the file's sha256 and the versions of what reads it, so that the same
    weights are found wherever the file lies. Each tensor has the narrowest of float16, bfloat16 and float32 that holds
    it exactly. Two processes may ask at once. Raises UsageError for a file that can't be read as a model, SlmbenchError
    where the cache can't be written.
    """
    _need_file(path)
    shelf = os.path.join(cache_dir(), "gguf")
    place = os.path.join(shelf, _key(path))
    if (notices := _notices_of(place)) is not None:  # No head is checked then, for which transformers is imported.
        return GgufFolder(place, notices)
    head = read_gguf_head(path)
    _need_gguf(path)
    check_head(head)
    say(
        f"{shown(path)} is dequantised once ({head.numbers / 1e6:,.0f} million numbers, {packing_of(head)}; about "
        f"{_bytes(head) / 1e9:.1f} GB below {shown(shelf)})"
    )
    with built_once(place, lambda folder: _notices_of(folder) is not None) as partial:
        need_room(shelf, _bytes(head), "the dequantised model takes", "set SLMBENCH_CACHE to another disk")
        with phase(f"dequantising {os.path.basename(path)}"):
            said = _fill(partial, head)
    return GgufFolder(place, said)


def gguf_head_folder(path: str) -> GgufFolder:
    """The same folder without weights, for what computes with the file's own; a whole one is taken if it is there."""
    _need_file(path)
    key = _key(path)
    whole, place = (os.path.join(cache_dir(), "gguf", name) for name in (key, f"{key}-head"))
    for known in (whole, place):
        if (notices := _notices_of(known)) is not None:
            return GgufFolder(known, notices)
    head = read_gguf_head(path)
    _need_gguf(path)
    check_whole(head)
    told = phase(f"reading the head of {os.path.basename(path)}")
    with built_once(place, lambda folder: _notices_of(folder) is not None) as partial, told:
        said = _fill(partial, head, weights=False)
    return GgufFolder(place, said)


def gguf_file(path: str) -> str:
    """The same path, after its head was read: whether a model can be made of it is told once it is dequantised.

    Raises UsageError for a file that isn't there or holds no GGUF.
    """
    _need_file(path)
    read_gguf_head(path)
    return path


def _need_file(path: str) -> None:
    if not os.path.isfile(path):
        raise UsageError(f"{shown(path)} does not exist; give a GGUF file, a folder, a registry name or a hub id")


def describe_gguf(path: str) -> JsonObject:
    """What a GGUF file says of itself, without loading it. Raises UsageError if it can't be read as a model."""
    head = read_gguf_head(path)
    check_head(head)
    said = head.of_architecture()
    return {
        "architecture": head.architecture,
        "name": head.metadata.get("general.name"),
        "parameters": head.numbers,
        "packing": packing_of(head),
        "context_tokens": said.get("context_length"),
        "layers": said.get("block_count"),
        "license": head.metadata.get("general.license"),
        "tokenizer": head.metadata.get("tokenizer.ggml.model"),
        "chat_template": "tokenizer.chat_template" in head.metadata,
        "file_bytes": head.size,
    }


def gguf_metadata(path: str) -> JsonObject:
    """The keys and values of a GGUF file; of a list how long it is. Raises UsageError if it is none."""
    return dict(read_gguf_head(path).metadata)


def gguf_numbers(path: str) -> dict[str, int]:
    """What the numbers of a GGUF file are packed in, as `Q4_1` -> how many. Raises UsageError if it is none."""
    return packed_numbers(read_gguf_head(path))


def _fill(folder: str, head: GgufHead, *, weights: bool = True) -> tuple[str, ...]:
    """Writes a file's model and tokenizer into a folder of transformers' layout; returns what is to be known."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    place, name = os.path.dirname(os.path.abspath(head.path)), os.path.basename(head.path)
    with _reading(head), _read_once():
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, gguf_file=name, local_files_only=True)
        notices = set_cuts(tokenizer, head)
        if weights:
            model, report = _class_of(place, name).from_pretrained(
                place, gguf_file=name, dtype=torch.float32, local_files_only=True, output_loading_info=True
            )
        else:
            config = transformers.AutoConfig.from_pretrained(place, gguf_file=name, local_files_only=True)
            with torch.device("meta"):
                model, report = _class_of(place, name).from_config(config), {}
    if weights:
        _check_placed(model, report, head)
    # What transformers looks at before it saves: the weights are whole numbers of float32 by now, packed no more.
    for attribute in ("hf_quantizer", "quantization_method", "is_quantized"):
        vars(model).pop(attribute, None)
    for config in (model.config, model.config.get_text_config()):
        if hasattr(config, "quantization_config"):
            del config.quantization_config
    if weights and (rotation := scaled_rotation(head)) is not None:
        model.config.rope_parameters = {**model.config.rope_parameters, **rotation}
    if weights:
        for parameter in model.parameters():
            parameter.data = _narrowed(parameter.data)
    kinds = {str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.dim() > 1}
    with disk_errors(folder):
        tokenizer.save_pretrained(folder)
        if weights:
            model.save_pretrained(folder, max_shard_size=_SHARD_BYTES)
        else:
            model.config.save_pretrained(folder)
            model.generation_config.save_pretrained(folder)
    _settle(folder, dtype=kinds.pop() if len(kinds) == 1 else "float32")
    files = {}
    for entry in sorted(os.listdir(folder)):
        path = os.path.join(folder, entry)
        os.chmod(path, 0o644)
        files[entry] = {"bytes": os.path.getsize(path), "sha256": None if _is_weights(entry) else file_sha256(path)}
    write_json(os.path.join(folder, MANIFEST), {"schema": 1, "notices": list(notices), "files": files})
    return tuple(notices)


def _class_of(place: str, name: str) -> Model:
    import transformers

    config = transformers.AutoConfig.from_pretrained(place, gguf_file=name, local_files_only=True)
    return transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM


def _check_placed(model: Model, report: JsonObject, head: GgufHead) -> None:
    """Raises UsageError if a model isn't just what the file holds: transformers drops and makes up in silence."""
    for kind, said in (("missing_keys", "lacks"), ("mismatched_keys", "has in another shape")):
        odd = sorted(map(str, report.get(kind) or ()))
        if odd:
            raise UsageError(
                f"{shown(head.path)} {said} {len(odd)} tensors of its model, such as {odd[0]}; fetch it again"
            )
    tied = bool(getattr(model.config, "tie_word_embeddings", False))
    spare = {"rope_freqs.weight"} | ({"output.weight"} if tied else set())
    there = sum(tensor.numbers for name, tensor in head.tensors.items() if name not in spare)
    placed = sum(parameter.numel() for parameter in model.parameters())
    placed += sum(buffer.numel() for key, buffer in model.state_dict().items() if key in dict(model.named_buffers()))
    if there != placed:
        raise UsageError(
            f"{shown(head.path)} holds {there:,} numbers, and what transformers makes of it {placed:,}: it would be "
            f"another model; give {_elsewhere(head)}"
        )


def _narrowed(tensor: Tensor) -> Tensor:
    import torch

    for dtype in (torch.float16, torch.bfloat16):
        narrow = tensor.to(dtype)
        if torch.equal(narrow.to(torch.float32), tensor):
            return narrow
    return tensor


def _settle(folder: str, *, dtype: str) -> None:
    path = os.path.join(folder, "config.json")
    config = read_object(path, _LIMITS)
    # The general.name of a file is not a place; what is said of a tokenizer's way here isn't either.
    config.pop("_name_or_path", None), config.pop("_model_name_or_path", None)
    write_json(path, {key: _as_written(value) for key, value in config.items()} | {"dtype": dtype})
    path = os.path.join(folder, "tokenizer_config.json")
    config = read_object(path, _LIMITS)
    write_json(path, {key: value for key, value in config.items() if key not in ("is_local", "local_files_only")})


def _as_written(value: object) -> Tensor:
    """A number of float32 as a person wrote it: 1e-05 where the file has 9.999999747378752e-06."""
    import numpy

    if isinstance(value, float) and value == float(numpy.float32(value)):
        return float(str(numpy.float32(value)))
    return value


def _bytes(head: GgufHead) -> int:
    return 4 * head.numbers


def _need_gguf(path: str) -> None:
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise UsageError(
            f"{shown(path)} is read by the package gguf, which is not installed: pip install gguf"
        ) from None


def _elsewhere(head: GgufHead) -> str:
    origin = head.metadata.get("general.base_model.0.repo_url") or head.metadata.get("general.repo_url")
    return "the folder or hub id that it was made from" + (f" ({origin})" if isinstance(origin, str) else "")


@contextlib.contextmanager
def _reading(head: GgufHead) -> Iterator[None]:
    """A stranger's file reaches all of transformers' code, which raises what it likes."""
    try:
        yield
    except MemoryError:
        raise SlmbenchError(f"{shown(head.path)}: dequantised it doesn't fit into memory") from None
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # Rust's, of the tokenizers.
            raise
        said = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
        raise UsageError(
            f"{shown(head.path)} can't be read as a model by transformers {version('transformers')}: {said}; give "
            f"{_elsewhere(head)}"
        ) from error


@contextlib.contextmanager
def _read_once() -> Iterator[None]:
    """Has transformers parse a file once and build the table of tensor names once, without a bar, for a block.

    It builds that table for each of a model's modules and parses the head several times over: 15 s of CPU are left
    of some 40 for a model of 135 million numbers. Its bar heeds only tqdm's own switch.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils as reader

    kept = [(gguf, "GGUFReader"), (gguf, "get_tensor_name_map"), (reader, "tqdm")]
    before = [(module, name, getattr(module, name)) for module, name in kept]
    gguf.GGUFReader = functools.cache(gguf.GGUFReader)
    gguf.get_tensor_name_map = functools.cache(gguf.get_tensor_name_map)
    reader.tqdm = lambda tensors, **_: tensors
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _notices_of(place: str) -> tuple[str, ...] | None:
    """What was noted when a folder was made; None if it isn't there or not whole. Weights are held to their size."""
    try:
        manifest = read_model(os.path.join(place, MANIFEST), _Manifest)
        if manifest.files.keys() != set(os.listdir(place)) - {MANIFEST}:
            return None
        for name, said in manifest.files.items():
            path = os.path.join(place, name)
            if os.path.getsize(path) != said.bytes or (not _is_weights(name) and file_sha256(path) != said.sha256):
                return None
        return tuple(manifest.notices)
    except (OSError, FileError):
        return None


def _key(path: str) -> str:
    digest = hashlib.sha256(bytes.fromhex(file_sha256(path)))
    here = os.path.dirname(os.path.abspath(__file__))
    for name in sorted(os.listdir(here)):
        if name.startswith("_gguf") and name.endswith(".py"):
            digest.update(bytes.fromhex(file_sha256(os.path.join(here, name))))
    for package in ("gguf", "tokenizers", "transformers"):
        with contextlib.suppress(PackageNotFoundError):
            digest.update(f"{package} {version(package)}\n".encode())
    return digest.hexdigest()[:16]


def _is_weights(name: str) -> bool:
    return name.endswith(".safetensors")
