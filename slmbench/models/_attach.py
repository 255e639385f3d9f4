"""An adapter on a base, for the length of a block; afterwards the base is what it was."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

from attrs import evolve, frozen

from slmbench.errors import UsageError
from slmbench.models._adapters import AdapterInfo, read_adapter
from slmbench.models._base import check_base, judge_base
from slmbench.models._core import core_model
from slmbench.models._load import LoadedModel
from slmbench.models._own_tokenizer import own_tokenizer, unembedded
from slmbench.models._peft_config import check_config
from slmbench.models._wiring import note_wiring
from slmbench.paths import shown
from slmbench.values import Model, Tokenizer

# peft's mark in front of what the base calls a module.
_PREFIX = "base_model.model."
_LEAVES_NUMBERS = frozenset(
    "LORA ADALORA LOHA LOKR IA3 LN_TUNING VERA OFT TRAINABLE_TOKENS PROMPT_TUNING PREFIX_TUNING P_TUNING CPT "
    "ADAPTION_PROMPT".split()
)
_SIZES = re.compile(r"size mismatch for (\S+): .*?torch\.Size\((.*?)\).*?torch\.Size\((.*?)\)", re.DOTALL)


@frozen(eq=False)
class Attached:
    """A model with an adapter on it, and how that comes off and goes on again.

    off: makes the base what it was before, bit for bit. on: puts it on again as it was the first time, on the base as
    it was then, without reading a file; None if it wrote over the base's own numbers, so that it has to be attached
    anew. own_bytes: of tensors that the base alone doesn't have.
    """

    loaded: LoadedModel
    off: Callable[[], None]
    on: Callable[[], None] | None
    own_bytes: int


@contextlib.contextmanager
def adapter_on(
    loaded: LoadedModel, folder: str, *, strict: bool = True, force_base: bool = False
) -> Iterator[LoadedModel]:
    """The model with an adapter on it for the length of the block; then the base as it was, bit for bit.

    Raises what `attach` raises.
    """
    attached = attach(loaded, folder, strict=strict, force_base=force_base)
    try:
        yield attached.loaded
    finally:
        attached.off()


def attach_adapter(loaded: LoadedModel, folder: str, *, strict: bool = True, force_base: bool = False) -> LoadedModel:
    """The model with an adapter on it, for good. Raises what `attach` raises."""
    return attach(loaded, folder, strict=strict, force_base=force_base).loaded


def _writes_over(info: AdapterInfo) -> bool:
    """Whether putting it on may change the base's own numbers in place, as where its first weights were taken from."""
    begun = (info.config.model_extra or {}).get("init_lora_weights")
    return info.kind not in _LEAVES_NUMBERS or (isinstance(begun, str) and begun not in ("gaussian", "orthogonal"))


def attach(loaded: LoadedModel, folder: str, *, strict: bool = True, force_base: bool = False) -> Attached:
    """The model with an adapter on it, and with the tokenizer that the adapter was trained with.

    strict: the base is that of the training: the same weights, dtype and packing where the adapter has their digest,
    else the model that it names. force_base: it may be another, and the result says so. Without strict names and shapes
    have to fit, as where an adapter of a packed base is merged into the whole one. Raises UsageError or FileError, and
    then the base is as it was.
    """
    info = check_base(loaded, folder, force=force_base) if strict else read_adapter(folder)
    check_config(info, loaded.model)
    tokenizer, notices = own_tokenizer(info, loaded.tokenizer, seq2seq=loaded.architecture == "seq2seq")
    if info.forced:
        notices.insert(0, f"on a base that is not its own, as requested: adapter {info.name!r} {info.forced}")
    elif strict and (remark := judge_base(info, loaded).remark):
        notices.insert(0, remark)
    modules, there = list(loaded.model.modules()), _storages(loaded.model)
    off = note_wiring(loaded.model, numbers=_writes_over(info))
    try:
        model = _put_on(loaded, info, tokenizer)
        core_model(loaded.model).slmbench_adapter = info.sha256
    except BaseException as error:
        off()
        if isinstance(error, UsageError) or not isinstance(error, Exception):
            raise
        # A stranger's settings reach all of peft's code.
        raise UsageError(f"adapter {shown(folder)} doesn't fit {loaded.source.name!r}: {_said(error)}") from error
    on = None if _writes_over(info) else note_wiring(loaded.model, of=modules)
    own_bytes = sum(size for at, size in _storages(model).items() if at not in there)
    tuned = evolve(loaded, model=model, adapter=info, tokenizer=tokenizer, notices=(*loaded.notices, *notices))
    return Attached(tuned, off, on, own_bytes)


def _put_on(loaded: LoadedModel, info: AdapterInfo, tokenizer: Tokenizer) -> Model:
    from peft import PeftModel, get_peft_model_state_dict

    saved = _fit_embeddings(loaded, info, tokenizer)
    model = PeftModel.from_pretrained(loaded.model, info.folder)
    # peft only warns of tensors that match nothing, and an adapter of which nothing is loaded scores as the base.
    # Whether it was saved with the embeddings that it stands on says the file alone.
    for embeddings in (saved, not saved):
        state = get_peft_model_state_dict(model, save_embedding_layers=embeddings)
        there = {key: list(tensor.shape) for key, tensor in state.items()}
        if there == info.shapes:
            break
    else:
        odd = sorted(key for key in {*there, *info.shapes} if there.get(key) != info.shapes.get(key))
        raise UsageError(
            f"adapter {shown(info.folder)} doesn't fit {loaded.source.name!r}: {len(odd)} tensors differ in name or "
            f"shape, as {odd[0]}"
        )
    model.eval().requires_grad_(False)  # peft leaves those of an adaption prompt to be trained.
    _try(model)
    return model


def _storages(model: Model) -> dict[int, int]:
    """Where a model's tensors lie -> bytes."""
    tensors = (*model.parameters(), *model.buffers())
    return {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}


def _fit_embeddings(loaded: LoadedModel, info: AdapterInfo, tokenizer: Tokenizer) -> bool:
    """Gives the base as many embeddings as the adapter was saved with; whether it was saved with them.

    Raises UsageError for tokens that neither has.
    """
    base = loaded.model
    embeddings = base.get_input_embeddings()
    name = next((name for name, module in base.named_modules() if module is embeddings), "")
    rows = int(embeddings.weight.shape[0])
    saved = next((info.shapes[key] for key in (f"{_PREFIX}{name}.weight",) if key in info.shapes), None)
    if saved and saved[0] != rows and len(saved) == 2 and saved[1] == embeddings.weight.shape[1]:
        base.resize_token_embeddings(saved[0], mean_resizing=False)
        rows = saved[0]
    trained = info.config.trainable_token_indices or []
    numbers = trained if isinstance(trained, list) else [number for some in trained.values() for number in some]
    if beyond := [number for number in numbers if number >= rows]:
        raise UsageError(
            f"adapter {shown(info.folder)} trained the token {beyond[0]}, and {loaded.source.name!r} has {rows:,} "
            "embeddings; write base and adapter to one folder where the base was enlarged"
        )
    if tokenizer is not loaded.tokenizer and (strange := unembedded(tokenizer, rows)):
        number, token = strange[0]
        raise UsageError(
            f"adapter {shown(info.folder)}: its tokenizer has {len(strange)} tokens more than there are embeddings, as "
            f"{token!r} ({number}, and {loaded.source.name!r} has {rows:,}); save the adapter with the enlarged "
            "embeddings (save_embedding_layers=True)"
        )
    return saved is not None


def _try(model: Model) -> None:
    """A pass over a few tokens; raises whatever a kind raises that asks for more than tokens, as a task's number."""
    import torch

    ids = torch.arange(4, device=next(model.parameters()).device)[None]
    decoder = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        model(input_ids=ids, **decoder)


def _said(error: Exception) -> str:
    """What peft or torch said, in a line of our own where it is about shapes."""
    sizes = _SIZES.findall(str(error))
    if sizes:
        name, given, wanted = sizes[0]
        return (
            f"{len(sizes)} of its tensors have shapes that don't fit, such as {name.removeprefix(_PREFIX)} "
            f"({given.strip('[]')} where {wanted.strip('[]')} fits); it was trained on a model of another shape"
        )
    return " ".join(str(error).split())[:300] or type(error).__name__
