"""A merged model as GGUF files, one for each way to pack it, and an adapter as llama.cpp's own kind of adapter."""

from __future__ import annotations

import os
from collections.abc import Sequence

from attrs import frozen

from slmbench.catalog import Catalog
from slmbench.console import phase
from slmbench.deployment._capacity import empty_model
from slmbench.deployment._trained import Trained
from slmbench.errors import OfflineError, SlmbenchError, UsageError
from slmbench.files import file_sha256, need_room
from slmbench.formats import chat_template_of
from slmbench.gguf_files import (
    HARD_TEXTS,
    KINDS,
    About,
    GgufLayout,
    GgufVocabulary,
    Kind,
    check_writable,
    layout_of,
    otherwise_cut,
    quantise,
    quantiser,
    read_kinds,
    setting_notices,
    vocabulary_of,
    write_gguf_model,
)
from slmbench.machine import usable_cores
from slmbench.models import (
    AdapterInfo,
    ModelApart,
    check_gguf_lora,
    check_requested,
    check_source,
    gguf_metadata,
    gguf_numbers,
    has_template,
    load_tokenizer,
    own_tokenizer,
    write_gguf_lora,
)
from slmbench.paths import shown
from slmbench.schema import ModelSpec, parse
from slmbench.values import Config, JsonObject, Model, Tokenizer
from slmbench.yamlfile import read_yaml

DEFAULT_KINDS = ("f16",)


@frozen
class GgufPlan:
    """What is written, known before anything is merged.

    packed_by: kind's name -> what packs it, '' for kinds that aren't packed. notices: what a person should know.
    """

    kinds: tuple[Kind, ...]
    packed_by: dict[str, str]
    about: About
    vocabulary: GgufVocabulary
    otherwise_cut: tuple[str, ...]
    notices: tuple[str, ...]


def plan_gguf(
    trained: Trained,
    config: Config,
    tokenizer: Tokenizer,
    catalog: Catalog,
    names: Sequence[str],
    *,
    is_own: bool,
) -> GgufPlan:
    """names: of the kinds that are asked for. is_own: whether the tokenizer is the adapter's and not the
    base's.

    Raises UsageError, with all faults, for a kind that is none or that nothing here packs, for a model that llama.cpp
    hasn't got, and for a tokenizer that it would cut otherwise.
    """
    faults: list[str] = []
    kinds: list[Kind] = []
    packed_by: dict[str, str] = {}
    vocabulary = None
    try:
        kinds = read_kinds(names)
    except UsageError as error:
        faults.append(str(error))
    for kind in kinds:
        try:
            packed_by[kind.name] = quantiser(kind)
        except UsageError as error:
            faults.append(str(error))
    try:
        layout = check_writable(config)
        chat = chat_template_of(tokenizer) if trained.format.template_of is not None else tokenizer.chat_template
        ends = trained.format.ends_turn(tokenizer)
        file = trained.source.file
        vocabulary = vocabulary_of(
            tokenizer,
            int(config.vocab_size),
            template=chat or None,
            begins_with_bos=_adds_bos(tokenizer),
            ends_turn=ends[-1] if ends else None,
            pre=None if file is None else str(gguf_metadata(file).get("tokenizer.ggml.pre", "")) or None,
            of_file=file is not None and not is_own,
        )
    except UsageError as error:
        faults.append(f"{trained.source.name!r}: {error}")
    if faults or vocabulary is None:
        raise UsageError("\n".join(faults))
    odd = otherwise_cut(tokenizer, vocabulary)
    notices = setting_notices(config)
    if odd:
        notices.append(
            f"llama.cpp's own tokenizer cuts {len(odd)} of {len(HARD_TEXTS) + 1} hard texts otherwise than the one of "
            f"the training, such as {odd[0]!r}"
        )
    about = _about(trained, layout, catalog, tokenizer)
    return GgufPlan(tuple(kinds), packed_by, about, vocabulary, tuple(odd), tuple(notices))


def write_ggufs(folder: str, name: str, model: Model, plan: GgufPlan) -> list[JsonObject]:
    """Writes the planned files into a folder, and returns what the record says of each.

    model: merged, in float32. Raises SlmbenchError where the disk is full or llama.cpp's quantiser fails.
    """
    rows = int(model.get_input_embeddings().weight.shape[0])
    if rows != len(plan.vocabulary.tokens):
        raise SlmbenchError(f"the merged model has {rows} embeddings, and its config {len(plan.vocabulary.tokens)}")
    numbers = sum(parameter.numel() for parameter in model.parameters())
    by_llama_cpp = [kind for kind in plan.kinds if plan.packed_by[kind.name].startswith("llama.cpp")]
    whole = KINDS["f32"]
    source = os.path.join(folder, gguf_name(name, whole) if whole in plan.kinds else f".{name}.source.gguf")
    kept = [kind.bits for kind in plan.kinds] + ([whole.bits] if by_llama_cpp and whole not in plan.kinds else [])
    need_room(folder, int(sum(kept) / 8 * numbers), "the files take", "ask for fewer kinds")
    if by_llama_cpp or whole in plan.kinds:
        with phase("writing F32"):
            write_gguf_model(source, model, plan.vocabulary, plan.about, whole)
    made = []
    for kind in plan.kinds:
        path = os.path.join(folder, gguf_name(name, kind))
        if kind in by_llama_cpp:
            with phase(f"packing {kind.name}"):
                quantise(source, path, kind, threads=usable_cores())
        elif kind != whole:
            with phase(f"writing {kind.name}"):
                write_gguf_model(path, model, plan.vocabulary, plan.about, kind)
        made.append(_said_of(path, kind, plan.packed_by[kind.name]))
    if by_llama_cpp and whole not in plan.kinds:
        os.unlink(source)
    return made


def write_lora_file(folder: str, trained: Trained, config: Config, *, force_base: bool) -> tuple[JsonObject, list[str]]:
    """(what the record says of the file, what a person should know); writes an adapter for llama.cpp.

    Raises UsageError for a whole model, an adapter of another base, and one that llama.cpp can't put on a model.
    """
    info = trained.info
    if info is None:
        raise UsageError(f"{shown(trained.folder)} holds a whole model, and no adapter; `--to gguf` writes that")
    layout = layout_of(config)
    # The weights of the base aren't needed, and may not be here: its name decides.
    remark = "" if force_base else check_source(info, trained.source, lambda _: None)
    check_gguf_lora(info, layout)
    _refuse_other_ids(info, trained)
    check_requested(info, ModelApart(empty_model(config), trained.folder, "cpu"), "float16")
    path = os.path.join(folder, f"{trained.name}-lora.gguf")
    write_gguf_lora(info, layout, path, base=trained.source.name)
    notices = [remark] if remark else []
    if trained.quantization is not None:
        notices.append(
            f"it was trained on a base packed as {trained.quantization.type}; on one that is packed otherwise it is "
            "another model"
        )
    if has_template(trained.folder):
        notices.append("a chat template lies beside the adapter; llama.cpp takes the base's")
    return _said_of(path, KINDS["f32"], ""), notices


def _refuse_other_ids(info: AdapterInfo, trained: Trained) -> None:
    """Raises UsageError for an adapter whose own tokenizer makes other ids: llama.cpp takes the base file's.

    The base's tokenizer isn't needed for anything else, and where it is missing nothing is compared.
    """
    try:
        base = load_tokenizer(trained.source)
    except OfflineError:
        return
    own, _ = own_tokenizer(info, base)
    ours, theirs = own.get_vocab(), base.get_vocab()
    odd = next((token for token in sorted(ours, key=ours.__getitem__) if theirs.get(token) != ours[token]), None)
    odd = odd or next((text for text in HARD_TEXTS if own.encode(text) != base.encode(text)), None)
    said = f"adapter {info.name!r} has a tokenizer of its own, which"
    if odd is not None:
        raise UsageError(
            f"{said} makes other ids of {odd!r} than that of {trained.source.name!r}, and llama.cpp takes the one of "
            "the base's file; `--to gguf` writes both into one"
        )
    if own.eos_token_id != base.eos_token_id:
        raise UsageError(
            f"{said} ends texts by {own.eos_token!r} and not by {base.eos_token!r}, and llama.cpp takes the end of the "
            "base's file; `--to gguf` writes both into one"
        )


def gguf_name(name: str, kind: Kind) -> str:
    """What the file of a kind is called."""
    return f"{name}-{kind.name}.gguf"


def _about(trained: Trained, layout: GgufLayout, catalog: Catalog, tokenizer: Tokenizer) -> About:
    source = trained.source
    name = source.name if trained.info is None else f"{source.name} {trained.name}"
    strips = any(token.rstrip for token in tokenizer.backend_tokenizer.get_added_tokens_decoder().values())
    if layout.architecture == "phi3" and strips and not any(word in name.lower() for word in ("phi-3", "phi3")):
        # By this name llama.cpp knows that marks of turns take the white space after them along.
        name = f"{name} phi-3"
    spec = None
    declared = catalog.files("models").get(source.name.removesuffix("-twin"))
    if declared is not None:
        spec = parse(ModelSpec, read_yaml(declared))
    hub = source.hub or (spec.hub if spec is not None and not source.twin else None)
    if hub is None and source.location.count("/") == 1 and not os.path.exists(source.location):
        hub = source.location
    return About(
        name,
        None if trained.info is None else trained.name,
        source.name,
        f"https://huggingface.co/{hub}" if hub else None,
        spec.license if spec is not None else _license_of_file(source.file),
    )


def _adds_bos(tokenizer: Tokenizer) -> bool:
    """Whether a bare text begins with BOS. One that a chat template writes by itself is no matter of the tokenizer."""
    return tokenizer.bos_token_id is not None and list(tokenizer.encode("x"))[:1] == [tokenizer.bos_token_id]


def _license_of_file(file: str | None) -> str | None:
    said = gguf_metadata(file).get("general.license") if file is not None else None
    return said if isinstance(said, str) else None


def _said_of(path: str, kind: Kind, packed_by: str) -> JsonObject:
    size, numbers = os.path.getsize(path), gguf_numbers(path)
    return {
        "file": os.path.basename(path),
        "kind": kind.name,
        "bytes": size,
        "sha256": file_sha256(path),
        "quantiser": packed_by or None,
        "packed": dict(sorted(numbers.items())),
        "bits_a_weight": round(8 * size / max(1, sum(numbers.values())), 3),
    }
