"""Whether an adapter was made on the base that it is put on: what is certain, and what is only likely."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from slmbench.errors import UsageError
from slmbench.files import file_sha256
from slmbench.models._adapters import AdapterInfo, read_adapter
from slmbench.models._load import LoadedModel
from slmbench.models._source import ModelSource
from slmbench.paths import shown

FORCE = "--force-base (force_base=True) puts it on this one anyway, and its runs say so"
# In the hub's cache, and in a mirror of `data pull`.
_CACHED = re.compile(r"models(?:--|[/\\])([^/\\]+?)--([^/\\]+)(?:[/\\]snapshots[/\\][^/\\]+)?[/\\]?$")
_FILE_KIND = re.compile(r"[.-](?:gguf|i?q\d\w*|bf16|f16|f32|fp16)$", re.IGNORECASE)
# Names that people and tools give to any model's folder.
_ANYBODYS = frozenset("model base merged output out checkpoint final hf llm weights snapshot latest".split())


@frozen
class Judgement:
    """refusal: why it is another base, '' where nothing says so. remark: what a person should know, '' if nothing."""

    refusal: str = ""
    remark: str = ""


def check_base(loaded: LoadedModel, folder: str, *, force: bool = False) -> AdapterInfo:
    """What an adapter says of itself. Raises UsageError if it was made on another base than the loaded one.

    force: it is taken all the same, and `forced` has what was against it.
    """
    info = read_adapter(folder)
    found = judge_base(info, loaded)
    if not found.refusal:
        return info
    if not force:
        raise UsageError(f"adapter {shown(folder)} {found.refusal}")
    return info.with_forced(found.refusal.partition("; ")[0])


def judge_base(info: AdapterInfo, loaded: LoadedModel) -> Judgement:
    """By the weights' digest where a training left one, by the name that the adapter's config gives otherwise."""
    if info.record.base_weights_sha256 is not None:
        return Judgement(_other_weights(info, loaded))
    return _by_name(info, loaded.source)


def check_source(info: AdapterInfo, source: ModelSource, digest: Callable[[str], str | None]) -> str:
    """What a person should know of an adapter that is put on a model which isn't in memory; '' if nothing.

    digest: dtype -> that of the model's weights in it (`weights_sha256`), None where it can't be known; the name
    decides then, as it does where the base was packed. Raises UsageError for an adapter of another base.
    """
    said = info.record
    if said.base_weights_sha256 is not None and said.quantization is None and said.dtype != "auto":
        found = digest(said.dtype)
        if found == said.base_weights_sha256:
            return ""
        if found is not None:
            raise UsageError(
                f"adapter {shown(info.folder)} was trained on {said.model!r} with weights "
                f"{said.base_weights_sha256[:12]}, but {source.name!r} here has {found[:12]} in {said.dtype}; give the "
                "base that it was trained on"
            )
    judged = _by_name(info, source)
    if judged.refusal:
        raise UsageError(
            f"adapter {shown(info.folder)} {judged.refusal.partition('; ')[0]}; give the base of the adapter"
        )
    return judged.remark


def other_base(info: AdapterInfo, other: AdapterInfo) -> str:
    """Why two adapters are of different bases; '' where nothing says so. Dtype and packing make no other base."""
    one, two = info.record, other.record
    if one.base_weights_sha256 is not None and two.base_weights_sha256 is not None:
        if one.base_weights_sha256 == two.base_weights_sha256:
            return ""
        if (one.dtype, one.quantization) == (two.dtype, two.quantization):
            return (
                f"was trained on {two.model!r} with weights {two.base_weights_sha256[:12]}, and {info.name!r} on "
                f"{one.model!r} with weights {one.base_weights_sha256[:12]}; merge adapters of one base"
            )
    ours, theirs = info.config.base_model_name_or_path, other.config.base_model_name_or_path
    if not ours or not theirs or _identity(ours) == _identity(theirs):
        return ""
    if _bare(ours) == _bare(theirs) and _bare(ours) not in _ANYBODYS:
        return ""
    if os.path.isdir(ours) and os.path.isdir(theirs) and _same_files(ours, theirs):
        return ""
    return f"was made on {shown(theirs)}, and {info.name!r} on {shown(ours)}; merge adapters of one base"


def _other_weights(info: AdapterInfo, loaded: LoadedModel) -> str:
    """What sets the base in memory apart from that of the training; '' where nothing does."""
    said = info.record
    digest_of: Callable[[str], list[str]] | None = getattr(loaded.model, "digest_of", None)
    if digest_of is not None:
        return _other_than_packed(info, loaded, digest_of)
    if said.quantization != loaded.quantization:
        return (
            f"was trained on {said.model!r} {_packed(said.quantization)}, but {loaded.source.name!r} is here "
            f"{_packed(loaded.quantization)}; load the base as it was in training, or {FORCE}"
        )
    if said.base_weights_sha256 == loaded.weights_sha256:
        return ""
    if said.model == loaded.source.name and said.dtype not in ("auto", loaded.dtype):
        return (
            f"was trained on {said.model!r} in {said.dtype}, but its weights are here in {loaded.dtype}; "
            f"load the base with dtype {said.dtype}, or {FORCE}"
        )
    return (
        f"was trained on {said.model!r} with weights {str(said.base_weights_sha256)[:12]}, but "
        f"{loaded.source.name!r} here has {loaded.weights_sha256[:12]} in {loaded.dtype}; train it again on these, or "
        f"{FORCE}"
    )


def _other_than_packed(info: AdapterInfo, loaded: LoadedModel, digest_of: Callable[[str], list[str]]) -> str:
    """The same of a file whose weights were packed after the training, or of which the training knew them unpacked."""
    said, file = info.record, shown(loaded.model.file)
    if said.quantization is not None:
        return (
            f"was trained on {said.model!r} packed as {said.quantization}, and whether {file} is of the same weights "
            f"can't be told; if it is, {FORCE}"
        )
    if said.base_weights_sha256 in digest_of(said.dtype):
        return ""
    return (
        f"was trained on {said.model!r} with weights {str(said.base_weights_sha256)[:12]} in {said.dtype}, and "
        f"{file} holds others, or the same ones packed in fewer bits; if it was made of them, {FORCE}"
    )


def _packed(quantization: object) -> str:
    return f"packed as {quantization}" if quantization else "unpacked"


def _by_name(info: AdapterInfo, source: ModelSource) -> Judgement:
    said = info.config.base_model_name_or_path
    if not said:
        return Judgement(
            remark=f"adapter {info.name!r} doesn't say what it was trained on; that it was this model is taken on trust"
        )
    here = source.name if source.name == source.id else f"{source.name} ({source.id})"
    if os.path.isabs(said) and os.path.isfile(os.path.join(said, "config.json")) and os.path.isdir(source.location):
        same = os.path.realpath(said) == os.path.realpath(source.location) or _same_files(said, source.location)
        refusal = f"was made on {shown(said)}, whose weights are not those of {here}; give that folder as the model, or"
        return Judgement() if same else Judgement(f"{refusal} {FORCE}")
    if _identity(said) in {_identity(name) for name in (source.id, source.location) if name}:
        theirs, ours = info.config.revision, source.revision
        if theirs and ours and theirs != ours and "main" not in (theirs, ours):
            return Judgement(remark=f"adapter {info.name!r} was made on revision {theirs} of {said}; here it is {ours}")
        return Judgement()
    names = {_bare(name) for name in (source.name, source.id, source.location)}
    if _bare(said) in names - _ANYBODYS:
        told = f"adapter {info.name!r} was made on {shown(said)}; that {here} is the same model, only its name says"
        return Judgement(remark=told)
    return Judgement(
        f"was made on {shown(said)}, by its adapter_config.json, and the base here is {here}: on another of "
        f"the same shape its numbers mean nothing; give the model that it was made on, or {FORCE}"
    )


def _identity(name: str) -> tuple[str, ...]:
    """A hub id in small letters, whether as it is or as the hub's cache has it; of a path its end, as tools move it."""
    cached = _CACHED.search(name)
    if cached:
        return cached[1].lower(), cached[2].lower()
    parts = [part for part in re.split(r"[/\\]+", name) if part not in ("", ".", "~")]
    if os.path.isabs(name) or "\\" in name or len(parts) != 2 or name.startswith((".", "~")):
        # The embedded model lies in another place in every environment.
        return tuple(parts[-3:]) if tuple(parts[-3::2]) == ("slmbench", "model") else (os.path.abspath(name),)
    return parts[0].lower(), parts[1].lower()


def _bare(name: str) -> str:
    """The last part of a name, in small letters, without what says how its file is packed."""
    cached = _CACHED.search(name)
    last = cached[2] if cached else re.split(r"[/\\]+", name.rstrip("/\\"))[-1]
    while (shorter := _FILE_KIND.sub("", last)) != last:
        last = shorter
    return last.lower()


def _same_files(one: str, other: str) -> bool:
    """Whether two models' folders hold the same weights, by the digests of their files."""
    with contextlib.suppress(OSError):
        sizes = [
            {path.name: path.stat().st_size for path in Path(place).glob("*.safetensors")} for place in (one, other)
        ]
        if not sizes[0] or sizes[0] != sizes[1]:
            return False
        return all(file_sha256(os.path.join(one, name)) == file_sha256(os.path.join(other, name)) for name in sizes[0])
    return False
