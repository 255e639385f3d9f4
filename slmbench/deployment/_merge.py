"""An adapter made one with its base, and the measurement that the two say the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve, frozen

from slmbench.errors import SlmbenchError, UsageError
from slmbench.models import AdapterInfo, LoadedModel, ModelSource, adapter_on, attach_adapter, check_base, load_model
from slmbench.paths import shown
from slmbench.schema import QuantizationSpec
from slmbench.values import Model, Tensor

TOLERANCE = 1e-3
"""How far logits in float32 may move by merging, as a share of the largest of them."""

_HALF_MAX = 65504.0
_APART = "evaluate and serve base and adapter apart"


@frozen(eq=False)
class Merged:
    """A model without adapter layers, in the dtype that it is written in. measured: what merging changed, for a record.

    base: the base as it was trained on and evaluated with.
    """

    model: Any
    tokenizer: Any
    base: LoadedModel
    measured: dict[str, Any]


@frozen
class Probe:
    """Token ids that both models are run on. decoder: of an encoder-decoder, what its decoder has before it."""

    ids: tuple[int, ...]
    decoder: tuple[int, ...] | None = None


def merge_adapter(
    source: ModelSource,
    adapter: str,
    probes: Sequence[Probe],
    *,
    held_in: str,
    quantization: QuantizationSpec | None,
    dtype: str,
    force_base: bool = False,
) -> Merged:
    """The base with the adapter's weights added to its own.

    held_in, quantization: as the base was in training. A packed base is unpacked from what it was packed to, so that
    the result is the model that was trained and evaluated, not the one that it was made from. The sum is made in
    float32 and then written in `dtype`.
    Raises UsageError for an adapter of another base, SlmbenchError if merging moves the logits by more than
    TOLERANCE of the largest, or if a weight doesn't fit into float16.
    """
    base = load_model(source, dtype=held_in, quantization=quantization)
    info = check_base(base, adapter, force=force_base)
    refuse_unmergeable(info)
    with adapter_on(base, adapter, force_base=force_base) as tuned:
        notices = tuned.notices
        evaluated = _logits(tuned.model, probes)
    packing = base.quantization
    if packing is not None:
        if packing.partition("+")[0] not in ("nf4", "fp4", "int8"):
            raise UsageError(
                f"{source.name!r} is packed as {packing}, which can't be unpacked here: an adapter is merged into "
                "whole weights or into those that bitsandbytes packed; serve base and adapter apart"
            )
        unpack(base.model)
    tuned = attach_adapter(evolve(base, quantization=None), adapter, strict=False)
    wide = tuned.model.float().eval()
    apart = _logits(wide, probes)
    try:
        model = wide.merge_and_unload(safe_merge=True)
    except (RuntimeError, ValueError, NotImplementedError, TypeError, AttributeError) as error:
        said = " ".join(str(error).split())[:300]
        raise UsageError(f"adapter {shown(adapter)} can't be merged into its base: {said}; {_APART}") from error
    model.eval()
    together = _logits(model, probes)
    largest = max((float(part.abs().max()) for part in apart), default=0.0)
    moved = _largest_difference(apart, together)
    measured: dict[str, Any] = {
        "prompts": len(probes),
        "tokens": sum(len(part) for part in apart),
        "largest_logit": largest,
        "largest_difference": moved,
        "tolerance": TOLERANCE,
    }
    if not moved <= TOLERANCE * max(largest, 1.0):
        raise SlmbenchError(
            f"merging moves a logit by {moved:.3g}, where the largest is {largest:.3g} and {TOLERANCE:g} of that is "
            "allowed; this adapter changes something that can't be added to the base's weights (as a head that is tied "
            "to the embeddings): serve base and adapter apart"
        )
    model = written_in(model, dtype)
    written = _logits(model, probes)
    packed = None
    if packing is not None:
        packed = {"type": packing.partition("+")[0], "double": packing.endswith("+double")}
    measured["as_evaluated"] = {
        "dtype": base.dtype,
        "quantization": packed,
        "largest_difference": _largest_difference(evaluated, written),
        "same_next_token": _agreement(evaluated, written),
    }
    measured["dtype"] = dtype
    return Merged(model, base.tokenizer, evolve(base, adapter=info, notices=notices), measured)


def refuse_unmergeable(info: AdapterInfo) -> None:
    """Raises UsageError for what no sum of weights can say, before anything is computed."""
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    said = ""
    if info.kind in list(PeftType) and not hasattr(
        PEFT_TYPE_TO_TUNER_MAPPING.get(PeftType(info.kind)), "merge_and_unload"
    ):
        said = (
            f"{info.kind} puts something of its own before or between the base's layers and changes none of its weights"
        )
    elif info.config.alora_invocation_tokens:
        said = "an activated LoRA acts from its own tokens on, and merged weights would act everywhere"
    if said:
        raise UsageError(f"adapter {shown(info.folder)} can't be merged into its base: {said}; {_APART}")


def written_in(model: Model, dtype: str) -> Tensor:
    """The model in a dtype. Raises SlmbenchError if a weight would become an infinity."""
    import torch

    if dtype == "float16":
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and float(tensor.abs().max()) > _HALF_MAX:
                raise SlmbenchError(f"{name} has a weight beyond {_HALF_MAX:g}, more than float16 holds; use bfloat16")
    model = model.to(getattr(torch, dtype))
    model.config.dtype = getattr(torch, dtype)
    return model


def unpack(model: Model) -> None:
    """Puts plain layers in the place of a model's packed ones, with the weights that those stand for."""
    import bitsandbytes as bnb
    import torch

    for name, module in list(model.named_modules()):
        if isinstance(module, bnb.nn.Linear8bitLt):
            scales = module.weight.SCB if module.weight.SCB is not None else module.state.SCB
            weight = module.weight.data.float() * (scales.float() / 127)[:, None]
        elif isinstance(module, bnb.nn.Linear4bit):
            weight = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state).float()
        else:
            continue
        plain = torch.nn.Linear(
            module.in_features, module.out_features, bias=module.bias is not None, device=weight.device
        )
        plain.weight = torch.nn.Parameter(weight, requires_grad=False)
        if module.bias is not None:
            plain.bias = torch.nn.Parameter(module.bias.data.float(), requires_grad=False)
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, plain)
    # What transformers looks at before it saves or moves a model; none of it holds any more.
    for attribute in ("quantization_method", "is_loaded_in_4bit", "is_loaded_in_8bit", "is_quantized", "hf_quantizer"):
        if attribute in vars(model):
            delattr(model, attribute)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    # How a file of packed weights was read, which transformers would turn around to write one and can't.
    if conversions := getattr(model, "_weight_conversions", None):
        model._weight_conversions = [one for one in conversions if not _of_packing(one)] or None


def _of_packing(conversion: object) -> bool:
    return any("Bnb" in type(step).__name__ for step in getattr(conversion, "operations", ()))


def _logits(model: Model, probes: Sequence[Probe]) -> list[Tensor]:
    """One (tokens, vocabulary) float32 tensor a probe, on the CPU."""
    import torch

    found = []
    device = next(model.parameters()).device
    with torch.no_grad():
        for probe in probes:
            inputs = {"input_ids": torch.tensor([probe.ids], device=device)}
            if probe.decoder is not None:
                inputs["decoder_input_ids"] = torch.tensor([probe.decoder], device=device)
            found.append(model(**inputs).logits[0].float().cpu())
    if not found:
        raise UsageError("there is nothing to compare the merged model on")
    return found


def _largest_difference(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


def _agreement(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """The share of places where both would go on with the same token."""
    same = sum(int((a.argmax(-1) == b.argmax(-1)).sum()) for a, b in zip(one, other, strict=True))
    return same / sum(len(a) for a in one)
