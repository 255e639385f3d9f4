"""An adapter on a base, for the length of a block; afterwards the base is what it was."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from attrs import evolve

from slmbench.errors import UsageError
from slmbench.models._adapters import AdapterInfo, read_adapter
from slmbench.models._load import LoadedModel
from slmbench.models._peft_config import check_config
from slmbench.models._wiring import note_wiring
from slmbench.paths import shown

# peft's mark in front of what the base calls a module.
_PREFIX = "base_model.model."
_LEAVES_NUMBERS = frozenset(
    "LORA ADALORA LOHA LOKR IA3 LN_TUNING VERA OFT TRAINABLE_TOKENS PROMPT_TUNING PREFIX_TUNING P_TUNING CPT "
    "ADAPTION_PROMPT".split()
)
_SIZES = re.compile(r"size mismatch for (\S+): .*?torch\.Size\((.*?)\).*?torch\.Size\((.*?)\)", re.DOTALL)


@contextlib.contextmanager
def adapter_on(loaded: LoadedModel, folder: str, *, strict: bool = True) -> Iterator[LoadedModel]:
    """The model with an adapter on it for the length of the block; then the base as it was, bit for bit.

    Raises what `attach_adapter` raises.
    """
    restore = note_wiring(loaded.model, numbers=_writes_over(read_adapter(folder)))
    try:
        yield attach_adapter(loaded, folder, strict=strict)
    finally:
        restore()


def _writes_over(info: AdapterInfo) -> bool:
    """Whether putting it on may change the base's own numbers in place, as where its first weights were taken from."""
    begun = (info.config.model_extra or {}).get("init_lora_weights")
    return info.kind not in _LEAVES_NUMBERS or (isinstance(begun, str) and begun not in ("gaussian", "orthogonal"))


def attach_adapter(loaded: LoadedModel, folder: str, *, strict: bool = True) -> LoadedModel:
    """The model with an adapter on it. Raises UsageError where the adapter was trained on another base.

    strict: the base's weights, as they are in memory, are those of the training: the same model, dtype and packing.
    Without it names and shapes have to fit, as where an adapter of a packed base is merged into the whole one. Where it
    raises, the base is as it was.
    """
    from peft import PeftModel, get_peft_model_state_dict

    info = check_base(loaded, folder) if strict else read_adapter(folder)
    check_config(info, loaded.model)
    restore = note_wiring(loaded.model, numbers=_writes_over(info))
    try:
        model = PeftModel.from_pretrained(loaded.model, folder)
        # peft only warns of tensors that match nothing, and an adapter of which nothing is loaded scores as the base.
        there = {key: list(tensor.shape) for key, tensor in get_peft_model_state_dict(model).items()}
        model.eval()
        if there == info.shapes:
            _try(model)
    except Exception as error:  # A stranger's settings reach all of peft's code.
        restore()
        raise UsageError(f"adapter {shown(folder)} doesn't fit {loaded.source.name!r}: {_said(error)}") from error
    if there != info.shapes:
        restore()
        odd = sorted(key for key in {*there, *info.shapes} if there.get(key) != info.shapes.get(key))
        raise UsageError(
            f"adapter {shown(folder)} doesn't fit {loaded.source.name!r}: {len(odd)} tensors differ in name or shape, "
            f"as {odd[0]}"
        )
    return evolve(loaded, model=model, adapter=info)


def _try(model: Any) -> None:
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
            f"{len(sizes)} of its tensors have other shapes than there is room for, as {name.removeprefix(_PREFIX)} "
            f"({given.strip('[]')} where {wanted.strip('[]')} fits); it was trained on a model of another shape"
        )
    return " ".join(str(error).split())[:300] or type(error).__name__


def check_base(loaded: LoadedModel, folder: str) -> AdapterInfo:
    """What an adapter says of itself. Raises UsageError where it was trained on another base than the loaded one."""
    info = read_adapter(folder)
    if odd := _other_base(info, loaded):
        raise UsageError(f"adapter {shown(folder)} {odd}")
    return info


def _other_base(info: AdapterInfo, loaded: LoadedModel) -> str | None:
    """What sets the base in memory apart from that of the training; None where nothing does, or nothing is known."""
    said = info.record
    if said.base_weights_sha256 is None:
        return None
    if said.quantization != loaded.quantization:
        return (
            f"was trained on {said.model!r} {_packed(said.quantization)}, but {loaded.source.name!r} is here "
            f"{_packed(loaded.quantization)}; load the base as it was in training"
        )
    if said.base_weights_sha256 == loaded.weights_sha256:
        return None
    if said.model == loaded.source.name and said.dtype not in ("auto", loaded.dtype):
        return (
            f"was trained on {said.model!r} in {said.dtype}, but its weights are here in {loaded.dtype}; "
            f"load the base with dtype {said.dtype}"
        )
    return (
        f"was trained on {said.model!r} with weights {said.base_weights_sha256[:12]}, but "
        f"{loaded.source.name!r} here has {loaded.weights_sha256[:12]} in {loaded.dtype}; train it again on these"
    )


def _packed(quantization: Any) -> str:
    return f"packed as {quantization}" if quantization else "unpacked"
