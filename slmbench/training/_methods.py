"""What of a model is trained: low-rank adapters of several kinds on a base as it is or packed, or all weights."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from slmbench.errors import SlmbenchError, UsageError
from slmbench.files import disk_errors
from slmbench.models import LoadedModel, ModelSource, load_model
from slmbench.schema import QuantizationSpec, RecipeSpec
from slmbench.values import JsonObject, Model, Tensor, Tokenizer

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from transformers import TrainingArguments

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
MODEL_WEIGHTS = "model.safetensors"

Write = Callable[[str, bytes], Any]


def load_base(source: ModelSource, spec: RecipeSpec) -> LoadedModel:
    """The base as a recipe's method wants it: packed for qlora, in float32 for full, else in the recipe's dtype."""
    if spec.method == "qlora":
        return load_model(source, dtype=spec.dtype, quantization=spec.quantization or QuantizationSpec())
    # All weights are trained here: in 16 bits, small updates would round to nothing. Steps may run in 16 bits still.
    return load_model(source, dtype="float32" if spec.method == "full" else spec.dtype)


def compute_dtype(loaded: LoadedModel, spec: RecipeSpec) -> str:
    """What the products of a step are made in, as `bfloat16`; if it isn't float32, they are made under autocast."""
    packed = getattr(loaded.model.config, "quantization_config", None)
    # Other ways of packing say nothing of it, but for a default that they don't read.
    compute = getattr(packed, "bnb_4bit_compute_dtype", None) if getattr(packed, "load_in_4bit", False) else None
    if compute is not None:
        return str(compute).removeprefix("torch.")
    if spec.method == "full":
        return "float32" if spec.dtype == "auto" else spec.dtype
    return loaded.dtype


def trainable_model(loaded: LoadedModel, spec: RecipeSpec) -> Model:
    """The model to train: the base itself, all of it, or in peft's wrapper with an adapter in float32 on it.

    The first weights of an adapter come from torch's global generator: seed it before. Raises UsageError for targets
    that the model lacks.
    """
    import peft

    model = loaded.model
    # A training makes no use of it, and checkpointed layers can't fill it.
    model.config.use_cache = False
    if spec.method == "full":
        return model.requires_grad_(True)
    if spec.method == "qlora":
        # Norms and head go to float32, as Dettmers et al. have them; checkpointing is on only if it is asked for.
        model = peft.prepare_model_for_kbit_training(
            model,
            use_gradient_checkpointing=spec.optim.gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )
    try:
        tuned = with_adapter(model, spec, loaded.source)
    except ValueError as error:  # Targets that the model lacks ...
        raise UsageError(f"peft refuses these settings: {' '.join(str(error).split())[:400]}") from error
    tuned.peft_config["default"].base_model_name_or_path = loaded.source.id
    return tuned


def with_adapter(model: Model, spec: RecipeSpec, source: ModelSource) -> Model:
    """A model in peft's wrapper, with a new adapter in float32 on it. Raises what peft raises."""
    import peft

    targets = spec.lora.targets or source.lora_targets
    config = peft.LoraConfig(
        r=spec.lora.rank,
        lora_alpha=spec.lora.alpha,
        lora_dropout=spec.lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        use_rslora=spec.lora.rslora,
        use_dora=spec.lora.dora,
        task_type="SEQ_2_SEQ_LM" if source.architecture == "seq2seq" else "CAUSAL_LM",
    )
    tuned = peft.get_peft_model(model, config)
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            # In 16 bits updates would be lost, and a resumed training would not be the same.
            parameter.data = parameter.data.float()
    return tuned


def has_adapter(model: Model) -> bool:
    """Whether an adapter is trained, and not the model itself."""
    import peft

    return isinstance(model, peft.PeftModel)


def trainable_tensors(model: Model) -> JsonObject:
    """name -> tensor of what is trained: of an adapter as peft names them, else of the whole model."""
    from peft import get_peft_model_state_dict

    if has_adapter(model):
        # Embeddings are never trained here, and peft would ask the hub whether they were.
        found = get_peft_model_state_dict(model, save_embedding_layers=False)
    else:
        # Tied weights are one tensor under several names; transformers ties them again when it loads.
        seen: set[int] = set()
        found = {}
        for name, tensor in model.named_parameters(remove_duplicate=False):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                found[name] = tensor
    return {name: tensor.detach().to("cpu").contiguous() for name, tensor in found.items()}


def write_weights(model: Model, write: Write) -> None:
    """Hands what is trained to `write(name, data)`: an adapter in peft's layout, or the model's safetensors."""
    import safetensors.torch

    adapted = has_adapter(model)
    data = safetensors.torch.save(trainable_tensors(model), metadata={"format": "pt"})
    write(ADAPTER_WEIGHTS if adapted else MODEL_WEIGHTS, data)
    if adapted:
        write(ADAPTER_CONFIG, _adapter_config(model))


def _adapter_config(model: Model) -> bytes:
    config = model.peft_config["default"]
    said = config.to_dict()
    for key, value in said.items():
        if isinstance(value, set | frozenset):
            said[key] = sorted(value)
        elif hasattr(value, "value"):
            said[key] = value.value
    said |= {"inference_mode": True, "peft_type": str(getattr(config.peft_type, "value", config.peft_type))}
    return (json.dumps(said, indent=2, sort_keys=True) + "\n").encode()


def read_weights(model: Model, folder: str) -> None:
    """Puts the weights of a checkpoint into the model, bit for bit. Raises SlmbenchError if they don't fit."""
    import safetensors.torch
    import torch

    if not has_adapter(model):
        tensors = safetensors.torch.load_file(os.path.join(folder, MODEL_WEIGHTS))
        parameters = dict(model.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            for name, tensor in tensors.items():
                parameters[name].copy_(tensor)
        return
    if odd := _put(model, safetensors.torch.load_file(os.path.join(folder, ADAPTER_WEIGHTS))):
        raise SlmbenchError(
            f"{len(odd)} tensors of the checkpoint don't fit the adapter, such as {odd[0]}; train again"
        )


def put_weights(model: Model, path: str) -> None:
    """Puts the weights of an adapter's file into the model's own, in float32. Raises UsageError if they don't fit."""
    import safetensors.torch

    tensors = {name: tensor.float() for name, tensor in safetensors.torch.load_file(path).items()}
    if odd := _put(model, tensors):
        raise UsageError(f"{len(odd)} of its tensors don't fit the adapter that is trained here, such as {odd[0]}")


def _put(model: Model, tensors: JsonObject) -> list[str]:
    """Sets an adapter's tensors; the names of those that aren't what was to be set, as they are of another shape."""
    import torch
    from peft import set_peft_model_state_dict

    there = trainable_tensors(model)
    odd = sorted(name for name in {*there, *tensors} if _shape(there.get(name)) != _shape(tensors.get(name)))
    if not odd:
        set_peft_model_state_dict(model, tensors)
        there = trainable_tensors(model)
        odd = sorted(name for name in tensors if not torch.equal(there[name], tensors[name]))
    return odd


def _shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)


def save_model(model: Model, tokenizer: Tokenizer, folder: str) -> None:
    """A fully trained model's folder, as transformers loads it. Raises SlmbenchError if the disk is full."""
    from safetensors import SafetensorError

    model.config.use_cache = True
    with disk_errors(folder):
        try:
            model.save_pretrained(folder, safe_serialization=True, max_shard_size="1000GB")
            tokenizer.save_pretrained(folder)
        except SafetensorError as error:
            import errno

            full = "os error 28" in str(error)
            raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, "README.md"))


def loraplus_optimizer(model: Model, arguments: TrainingArguments, lr_ratio: float) -> Optimizer:
    """LoRA+: the recipe's optimiser, with the learning rate of the B matrices `lr_ratio` times that of the A's."""
    import transformers
    from peft.optimizers import create_loraplus_optimizer

    kind, options = transformers.Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    options = dict(options)
    return create_loraplus_optimizer(
        model,
        kind,
        lr=options.pop("lr"),
        loraplus_lr_ratio=lr_ratio,
        loraplus_weight_decay=arguments.weight_decay,
        **options,
    )
