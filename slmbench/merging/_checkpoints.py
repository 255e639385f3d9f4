"""Whole checkpoints as files: every tensor by name, mapped from where it lies, and never all of them in memory."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Mapping, Sequence
from types import TracebackType

from attrs import frozen

from slmbench.errors import FileError, SlmbenchError, UsageError
from slmbench.foreign import Limits, read_object
from slmbench.models import TensorPlace, check_files, placed_tensors
from slmbench.paths import shown
from slmbench.values import JsonObject, Tensor

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
"""safetensors' names of what can be merged or, if they are no floats, compared -> torch's."""
FLOATS = ("F64", "F32", "F16", "BF16")
_CHUNK = 1 << 22
_LIMITS = Limits(bytes=64_000_000, surrogates=True, infinity=True)
# What older models keep with their weights and newer ones make anew.
_MADE_ANEW = ("attn.bias", "masked_bias", "position_ids", "inv_freq")
# What says where a model came from, how it is trained or how texts are drawn, and nothing of what its weights mean.
_OF_NO_WEIGHT = (
    "_name_or_path _attn_implementation transformers_version dtype torch_dtype use_cache quantization_config "
    "architectures task_specific_params id2label label2id output_past output_attentions output_hidden_states "
    "n_positions max_position_embeddings max_length pretraining_tp gradient_checkpointing tie_word_embeddings "
    "initializer_factor initializer_range slmbench_twin return_dict auto_map"
).split()


class Mapped:
    """safetensors files, mapped: what is read of a tensor is the system's to drop again. To be closed, or `with`."""

    def __init__(self) -> None:
        self._maps: dict[str, mmap.mmap] = {}
        # config.json -> `names_in_memory`: the inputs of a merge mostly have one config.
        self.in_memory: dict[str, list[list[str]]] = {}

    def tensor(self, place: TensorPlace) -> Tensor:
        """A tensor in its own dtype, which lies in the file: nothing of it is read before it is looked at."""
        import torch

        dtype = getattr(torch, DTYPES[place.dtype])
        if place.start == place.end:
            return torch.empty(place.shape, dtype=dtype)
        if place.file not in self._maps:
            with open(place.file, "rb") as file:
                # Private, as torch takes only what could be written; nothing is.
                self._maps[place.file] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        count = (place.end - place.start) // dtype.itemsize
        if place.start % dtype.itemsize:
            data = bytearray(self._maps[place.file][place.start : place.end])
            return torch.frombuffer(data, dtype=dtype).reshape(place.shape)
        return torch.frombuffer(self._maps[place.file], dtype=dtype, count=count, offset=place.start).reshape(
            place.shape
        )

    def forget(self, place: TensorPlace) -> None:
        """Has the system take a tensor's pages out of this process; they are read again if it is asked for again."""
        mapped = self._maps.get(place.file)
        if mapped is None or not hasattr(mmap, "MADV_DONTNEED"):
            return
        first = place.start - place.start % mmap.PAGESIZE
        mapped.madvise(mmap.MADV_DONTNEED, first, place.end - first)

    def close(self) -> None:
        maps, self._maps = self._maps, {}
        for mapped in maps.values():
            try:
                mapped.close()
            except BufferError:  # A tensor of it is still held; it is unmapped with that.
                continue

    def __enter__(self) -> Mapped:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


@frozen(eq=False)
class StoredModel:
    """A model's folder. places: name -> where the tensor lies, of those that are one in memory the first name alone.

    tied: name -> the one that it is tied to. config: config.json as it is. in_memory: what transformers calls its
    tensors; empty if it doesn't know such a model.
    """

    name: str
    folder: str
    config: JsonObject
    places: Mapping[str, TensorPlace]
    tied: Mapping[str, str]
    in_memory: Sequence[str] = ()

    @property
    def architecture(self) -> str:
        return "seq2seq" if self.config.get("is_encoder_decoder") is True else "causal"

    @property
    def files(self) -> list[str]:
        """Paths of the files that hold its weights."""
        return sorted({place.file for place in self.places.values()})


def open_checkpoint(name: str, folder: str, mapped: Mapped) -> StoredModel:
    """A model's folder, as far as its headers tell. name: as messages call it.

    Raises UsageError for what is no folder of whole weights in safetensors, FileError for damaged files.
    """
    where = f"{name} ({shown(folder)})"
    if not os.path.isfile(os.path.join(folder, "config.json")):
        raise UsageError(f"{where}: it has no config.json, so it is not a model's folder")
    check_files(folder)
    config = read_object(os.path.join(folder, "config.json"), _LIMITS)
    places = placed_tensors(folder)
    if places is None:
        raise UsageError(f"{where}: {_no_weights(folder)}")
    places = {key: place for key, place in places.items() if not key.endswith(_MADE_ANEW)}
    if packed := _packed(places, config):
        raise UsageError(
            f"{where}: {len(packed)} of its tensors are packed into few bits, such as {packed[0]} "
            f"({places[packed[0]].dtype}); give the float32 or bfloat16 weights that it was made from"
        )
    asked = json.dumps(config, sort_keys=True)
    groups = mapped.in_memory.get(asked)
    if groups is None:
        groups = mapped.in_memory[asked] = names_in_memory(folder)
    kept, tied = dict(places), {}
    said = config.get("tie_word_embeddings")
    for first, *others in groups:
        there = [key for key in (first, *others) if key in places]
        if not there or not others:
            continue
        # Files name one tensor as it came; here it has the first of its names.
        kept[first] = places[there[0]]
        for other in others:
            head = other.rpartition(".")[0].rpartition(".")[2] in ("lm_head", "embed_out", "output")
            apart = other in places and (
                not _same(places[there[0]], places[other], mapped) or (head and said is False and first in places)
            )
            if apart and not head:
                raise UsageError(f"{where}: {there[0]} and {other} are one tensor in such a model, and differ")
            if not apart:
                kept.pop(other, None)
                tied[other] = first
    return StoredModel(name, folder, config, kept, tied, [key for group in groups for key in group])


def names_in_memory(folder: str) -> list[list[str]]:
    """What transformers calls the tensors of such a model; several names of one if it ties its head to the embeddings.

    [] for a model that transformers doesn't know by itself.
    """
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    try:
        made = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        made.tie_word_embeddings = True
        auto = transformers.AutoModelForSeq2SeqLM if made.is_encoder_decoder else transformers.AutoModelForCausalLM
        with torch.device("meta"):
            model = auto.from_config(made)
        model.tie_weights()
    except Exception:  # Config values of anybody's reach all of transformers' code; a model's own code isn't run.
        return []
    names: dict[int, list[str]] = {}
    for key, value in model.state_dict(keep_vars=True).items():
        names.setdefault(id(value), []).append(key)
    return list(names.values())


def weights_digest(stored: StoredModel, dtype: str, mapped: Mapped) -> str | None:
    """What `weights_sha256` of the loaded model in a dtype is, a tensor at a time; None where that can't be told."""
    import torch

    wanted = getattr(torch, dtype)
    digest = hashlib.sha256()
    if not stored.in_memory or wanted == torch.float16:  # Of which transformers keeps some modules in float32.
        return None
    for key in sorted(stored.in_memory):
        place = stored.places.get(stored.tied.get(key, key))
        if place is None:
            return None
        of = wanted if place.dtype in FLOATS else getattr(torch, DTYPES[place.dtype])
        digest.update(f"{key} {of} {place.shape}\n".encode())
        for part in chunks(mapped.tensor(place)):
            digest.update(part.to(of).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def together_problems(checkpoints: Sequence[StoredModel]) -> list[str]:
    """Why checkpoints can't be merged: one line each of what sets the others apart from the first."""
    first = checkpoints[0]
    found = []
    for other in checkpoints[1:]:
        who = f"{other.name} and {first.name}"
        ours, theirs = (_told(one.config) for one in (first, other))
        if ours != theirs:
            found.append(f"{who} have different architectures: {theirs} and {ours}")
            continue
        for key in sorted(first.config.keys() & other.config.keys()):
            if key in _OF_NO_WEIGHT or key.endswith(("_token_id", "dropout", "_dropout_rate")) or "dropout" in key:
                continue
            a, b = other.config[key], first.config[key]
            if a != b:
                found.append(f"{who} differ in {key} of config.json: {json.dumps(a)[:80]} and {json.dumps(b)[:80]}")
        names = {first.name: set(first.places), other.name: set(other.places)}
        heads = [key for key in {*first.tied, *other.tied} if (key in first.tied) != (key in other.tied)]
        for key in sorted(heads):
            if (key in first.places) == (key in other.places):
                continue
            owner, tied = (first, other) if key in first.places else (other, first)
            found.append(
                f"{who}: {owner.name} has a {key} of its own, and in {tied.name} it is tied to {tied.tied[key]}; "
                "averaged it would be neither: untie or tie both"
            )
            names[owner.name].discard(key)
        for one, another in ((first, other), (other, first)):
            if lacking := sorted(names[another.name] - names[one.name]):
                more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
                found.append(f"{one.name} lacks tensors that {another.name} has: {', '.join(lacking[:3])}{more}")
        found += _shape_problems(first, other)
    return found


def _shape_problems(first: StoredModel, other: StoredModel) -> list[str]:
    odd: list[tuple[str, object, object]] = []
    for key in first.places.keys() & other.places.keys():
        ours, theirs = first.places[key], other.places[key]
        if ours.shape != theirs.shape:
            odd.append((key, list(theirs.shape), list(ours.shape)))
        elif (ours.dtype in FLOATS) != (theirs.dtype in FLOATS):
            odd.append((key, theirs.dtype, ours.dtype))
    told = [
        f"{other.name} and {first.name}: {key} is {theirs} and {ours}" for key, theirs, ours in sorted(odd, key=str)[:5]
    ]
    return told + [f"{other.name} and {first.name}: {len(odd) - 5} more tensors like these"] * (len(odd) > 5)


def chunks(tensor: Tensor) -> list[Tensor]:
    """A tensor's numbers in parts of at most 4 million, views of it if it lies in one piece."""
    return list(tensor.reshape(-1).split(_CHUNK)) if tensor.numel() else []


def is_finite(tensor: Tensor) -> bool:
    """Whether there is neither NaN nor an infinity among a tensor's numbers."""
    import torch

    if not tensor.numel():
        return True
    # One pass, without a tensor of flags: NaN goes through to both ends.
    low, high = torch.aminmax(tensor.reshape(-1))
    return bool(torch.isfinite(low) and torch.isfinite(high))


def same_numbers(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape hold the same, whatever dtypes they have."""
    import torch

    return all(torch.equal(a, b.to(a.dtype)) for a, b in zip(chunks(one), chunks(other), strict=True))


def _same(one: TensorPlace, other: TensorPlace, mapped: Mapped) -> bool:
    return one.shape == other.shape and (one == other or same_numbers(mapped.tensor(one), mapped.tensor(other)))


def _packed(places: Mapping[str, TensorPlace], config: Mapping[str, object]) -> list[str]:
    """Names of tensors whose numbers stand for others, by constants that are kept beside them."""
    packing = config.get("quantization_config") is not None
    return sorted(
        key
        for key, place in places.items()
        if place.dtype not in FLOATS and (packing or place.dtype not in DTYPES or key.endswith((".weight", ".qweight")))
    )


def _told(config: Mapping[str, object]) -> str:
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else str(config.get("model_type"))


def _no_weights(folder: str) -> str:
    pickles = sorted(name for name in os.listdir(folder) if name.endswith((".bin", ".pt", ".pth", ".ckpt")))
    if pickles:
        return (
            f"its weights are a pickle ({pickles[0]}), which can run code when it is read, so it isn't; save it as "
            "safetensors where it was made: model.save_pretrained(folder)"
        )
    return "it has no weights in safetensors (model.safetensors, or model.safetensors.index.json with its shards)"


def problem_lines(error: SlmbenchError) -> list[str]:
    """What an error says, a line each fault."""
    if isinstance(error, FileError):
        return [f"{problem}" + (f"; {error.todo}" if error.todo else "") for problem in error.problems]
    return str(error).split("\n")
