"""What memory a training will take, before a weight is loaded; and, where it is too much, what would fit."""

from __future__ import annotations

import contextlib
import copy
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from slmbench.errors import UsageError
from slmbench.machine import give_back_freed
from slmbench.models import ModelSource, asked_by
from slmbench.schema import OptimSpec, QuantizationSpec, RecipeSpec
from slmbench.training._methods import with_adapter
from slmbench.training._peak import fake_model, step_peak
from slmbench.training._shapes import empty_model, pack_layers
from slmbench.values import Config, JsonObject, Model

if TYPE_CHECKING:
    import torch

PARTS = ("weights", "adapter", "gradients", "optimizer", "activations", "head", "overhead")
# Fitted on Linux with glibc, which keeps freed blocks in between those that live: the share of activations and head
# that comes on top in a first step, and in the worst of the steps after it.
FIRST_STEP_SLACK = 0.12
LATER_SLACK = 0.10
LIBRARY_BYTES = 70_000_000
"""What kernels, their code and the evaluation harness take when they first run."""
PACKING_BYTES = 50_000_000
"""The same of bitsandbytes' kernels for a packed base."""
CUDA_WORKSPACE_BYTES = 32 << 20


@frozen
class Forecast:
    """Bytes by part (see PARTS) at the worst moment of a training, on `device`: of the whole process on a CPU.

    batch: (prompt, answer) tokens of the rows of the largest micro-batch. calibrated_bytes, measured_bytes: the total
    as one real step corrects it, and that step's own peak. simulated: False if the model's class doesn't let its
    step be gone through without numbers, and a rule of thumb stands in.
    """

    device: str
    parts: Mapping[str, int]
    batch: tuple[tuple[int, int], ...]
    simulated: bool
    calibrated_bytes: int | None = None
    measured_bytes: int | None = None
    plan: Any = field(default=None, repr=False, eq=False)

    @property
    def total_bytes(self) -> int:
        return sum(self.parts.values())

    def as_json(self) -> JsonObject:
        return {
            "device": self.device,
            "forecast_bytes": self.total_bytes,
            "calibrated_bytes": self.calibrated_bytes,
            "first_step_bytes": self.measured_bytes,
            "parts": dict(self.parts),
            "largest_batch": {
                "rows": len(self.batch),
                "tokens": sum(prompt + answer for prompt, answer in self.batch),
                "answer_tokens": sum(answer for _, answer in self.batch),
            },
            "simulated": self.simulated,
        }


@frozen
class TrainingPlan:
    """What a forecast is of. base_bytes: the process without the model, on a CPU."""

    spec: RecipeSpec
    optim: OptimSpec
    config: Any
    source: ModelSource
    device: str
    base_bytes: int


def forecast_memory(
    spec: RecipeSpec,
    optim: OptimSpec,
    config: Config,
    source: ModelSource,
    *,
    device: str,
    longest_batch: Sequence[tuple[int, int]],
) -> Forecast:
    """The memory of a training at its worst, from shapes alone.

    config: transformers', of the model. device: cpu or cuda; on a GPU it is what torch allocates there, without the
    half gigabyte of CUDA itself. longest_batch: (prompt, answer) tokens of each row of the plan's largest micro-batch;
    of an encoder-decoder, of encoder and decoder.
    """
    plan = TrainingPlan(spec, optim, config, source, device, CUDA_WORKSPACE_BYTES)
    if device != "cpu":
        return forecast_rows(plan, longest_batch)
    # Going through a step imports parts of torch, which stay: what the process takes is looked up after it.
    steps = _step_bytes(plan, longest_batch)
    base = _process_bytes(spec.method == "qlora" or "8bit" in optim.optimizer)
    return _in_parts(evolve(plan, base_bytes=base), longest_batch, *steps)


def calibrate(forecast: Forecast, measured_bytes: int, batch: Sequence[tuple[int, int]] | None = None) -> Forecast:
    """The forecast as one real step corrects it.

    measured_bytes: the peak of that step, optimiser included. batch: the rows of its largest micro-batch, as
    `longest_batch`; None if it was the largest of the training.
    """
    of_step = forecast
    if batch is not None and forecast.plan is not None and tuple(batch) != forecast.batch:
        of_step = forecast_rows(forecast.plan, batch)
    fixed, moving = _fixed(of_step), _moving(of_step)
    expected = fixed + moving * (1 + (FIRST_STEP_SLACK if forecast.device == "cpu" else 0.0))
    # Where a step moves little, what is off is in what stands: the libraries, not the activations.
    share = min(1.0, moving / max(1.0, 0.25 * of_step.total_bytes))
    off = measured_bytes - expected
    scale = max(0.25, 1 + share * off / max(1.0, expected - fixed))
    total = fixed + (1 - share) * off + _moving(forecast) * scale * (1 + _slack(forecast.device))
    total = max(total, measured_bytes)
    return evolve(forecast, calibrated_bytes=round(total), measured_bytes=measured_bytes)


def _moving(forecast: Forecast) -> int:
    return forecast.parts["activations"] + forecast.parts["head"]


def _fixed(forecast: Forecast) -> float:
    slack = _slack(forecast.device) * _moving(forecast)
    return forecast.total_bytes - _moving(forecast) - slack


def _slack(device: str) -> float:
    return FIRST_STEP_SLACK + LATER_SLACK if device == "cpu" else 0.0


def forecast_rows(plan: TrainingPlan, batch: Sequence[tuple[int, int]]) -> Forecast:
    """The forecast of a plan whose largest micro-batch is of these rows."""
    return _in_parts(plan, batch, *_step_bytes(plan, batch))


_StepBytes = tuple["_Sizes", int, int, bool]
# A process trains the same shapes again and again: adapters of a recipe, points of a sweep.
_gone_through: dict[object, _StepBytes] = {}


def _step_bytes(plan: TrainingPlan, batch: Sequence[tuple[int, int]]) -> _StepBytes:
    """(sizes, bytes kept when the head begins, bytes at most, whether a step was gone through), weights apart."""
    key = _shapes(plan, batch)
    if key in _gone_through:
        return _gone_through[key]
    model, sizes = _training_model(plan)
    try:
        peak = step_peak(
            fake_model(model, plan.device),
            batch,
            device=plan.device,
            architecture=plan.source.architecture,
            accumulate=plan.optim.accumulate > 1,
            autocast=_autocast(plan),
        )
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError, NotImplementedError):
        # A class of anyone's that looks at numbers, which aren't there. The record says `simulated: false`.
        return sizes, *_rule_of_thumb(plan, batch), False
    _gone_through[key] = sizes, peak.kept_bytes, peak.peak_bytes, True
    return _gone_through[key]


def _shapes(plan: TrainingPlan, batch: Sequence[tuple[int, int]]) -> object:
    """All that a step's bytes depend on."""
    spec, optim, source = plan.spec, plan.optim, plan.source
    model = (plan.config, source.architecture, source.dtype, source.lora_targets, plan.device)
    change = (spec.method, spec.dtype, spec.lora, spec.quantization, optim.accumulate > 1, optim.gradient_checkpointing)
    return type(plan.config), repr((model, change, [tuple(row) for row in batch]))


def _in_parts(
    plan: TrainingPlan, batch: Sequence[tuple[int, int]], sizes: _Sizes, kept: int, most: int, simulated: bool
) -> Forecast:
    states, temporary = _optimizer_bytes(plan.optim, sizes.trained, plan.device)
    gradients = 4 * sum(sizes.trained)
    # A checkpoint is put together in memory, when gradients and activations are gone.
    most = max(most, gradients + temporary * max(sizes.trained, default=0), 2 * states)
    head = max(0, most - max(kept, gradients) - (gradients if kept > gradients else 0))
    activations = max(0, most - head - gradients)
    overhead: float = plan.base_bytes
    if plan.device == "cpu":
        overhead += LIBRARY_BYTES + _kernel_bytes(plan) + _slack(plan.device) * (activations + head)
    sized = (sizes.weights, sizes.adapter, gradients, states, activations, head, overhead)
    rows = tuple((int(prompt), int(answer)) for prompt, answer in batch)
    parts = {key: round(size) for key, size in zip(PARTS, sized, strict=True)}
    return Forecast(plan.device, parts, rows, simulated, plan=plan)


def _kernel_bytes(plan: TrainingPlan) -> int:
    """What products take for themselves on a CPU, and keep."""
    config = plan.config.get_text_config()
    packed = PACKING_BYTES if plan.spec.method == "qlora" else 0
    # oneDNN turns 16-bit weights round before it multiplies: the head's are the largest, once for each direction.
    narrow = _autocast(plan) is not None
    width = int(getattr(config, "hidden_size", 0) or getattr(config, "d_model", 0) or 0)
    return packed + (2 * 2 * width * int(config.vocab_size) if narrow else 0)


@frozen
class _Sizes:
    """Bytes of the base and of the adapter; the numbers in each trained tensor."""

    weights: int
    adapter: int
    trained: tuple[int, ...]


def _training_model(plan: TrainingPlan) -> tuple[Model, _Sizes]:
    """The model as `trainable_model` makes it, on the meta device."""
    import torch

    spec, source = plan.spec, plan.source
    dtype = getattr(torch, weights_dtype(spec, source, plan.device))
    try:
        config = copy.deepcopy(plan.config)  # Making a model changes it, and it is what a step is known by.
        model = empty_model(config, source.architecture, torch.float32 if spec.method == "full" else dtype)
    except Exception as error:  # Of a config of anyone's, which names what there isn't.
        said = " ".join(str(error).split())[:200] + asked_by(error, plan.config.to_dict())
        raise UsageError(f"the config of {source.name!r} makes no model: {type(error).__name__}: {said}") from error
    model.config.use_cache = False
    model.requires_grad_(spec.method == "full")
    if spec.method == "qlora":
        for parameter in model.parameters():  # As peft.prepare_model_for_kbit_training has it.
            parameter.data = parameter.data.float()
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    if spec.method == "qlora":
        # DoRA unpacks a layer for its norms, and keeps what it unpacked: as good as layers that aren't packed.
        packing = spec.quantization or QuantizationSpec()
        weights -= pack_layers(model, packing, compute=dtype, replace=not spec.lora.dora)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of peft's and of transformers' next version; the training itself says it.
        with torch.device("meta"):
            tuned = model if spec.method == "full" else with_adapter(model, spec, source)
        if plan.optim.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
    tuned.train()
    trained = tuple(parameter.numel() for parameter in tuned.parameters() if parameter.requires_grad)
    return tuned, _Sizes(weights, 0 if spec.method == "full" else 4 * sum(trained), trained)


def weights_dtype(spec: RecipeSpec, source: ModelSource, device: str) -> str:
    """The dtype that a recipe's model is loaded in, as `float32`; of what stays unpacked under `qlora`."""
    import torch

    named = source.dtype if spec.dtype == "auto" else spec.dtype
    if named != "auto":
        return named
    if device == "cpu":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


def _autocast(plan: TrainingPlan) -> torch.dtype | None:
    import torch

    spec = plan.spec
    if spec.method == "full":
        dtype: str = "float32" if spec.dtype == "auto" else spec.dtype
    else:
        dtype = weights_dtype(spec, plan.source, plan.device)
        given = (spec.quantization or QuantizationSpec()).compute if spec.method == "qlora" else "auto"
        dtype = dtype if given == "auto" else given
    return None if dtype == "float32" else getattr(torch, dtype)


def _optimizer_bytes(optim: OptimSpec, trained: Sequence[int], device: str) -> tuple[int, int]:
    """(bytes of AdamW's states, bytes a number of the largest tensor that a step takes beside them)."""
    if optim.optimizer in ("adamw_8bit", "paged_adamw_8bit"):
        # bitsandbytes keeps tensors below 4096 numbers in float32, and a scale for each 256 of the others.
        return sum(8 * n if n < 4096 else 2 * n + 8 * -(-n // 256) for n in trained), 0
    if optim.optimizer == "adamw_torch_fused":
        return 8 * sum(trained), 0
    # On a GPU torch takes all tensors at once.
    return 8 * sum(trained), 8 if device == "cpu" else 4 * len(trained)


def _rule_of_thumb(plan: TrainingPlan, batch: Sequence[tuple[int, int]]) -> tuple[int, int]:
    config = plan.config.get_text_config()
    size = 4 if _autocast(plan) is None else 2
    longest = max(prompt for prompt, _ in batch), max(answer for _, answer in batch)
    tokens = len(batch) * sum(longest)
    width = int(getattr(config, "hidden_size", 0) or getattr(config, "d_model", 0) or 1024)
    layers = int(getattr(config, "num_hidden_layers", 0) or getattr(config, "num_layers", 0) or 24)
    # Korthikanti et al. 2022: 34 bytes a token, layer and width in 16 bits, without the attention's square.
    kept = 17 * size * tokens * width * (1 if plan.optim.gradient_checkpointing else layers)
    return kept, kept + 3 * 4 * len(batch) * longest[1] * int(config.vocab_size)


def _process_bytes(packs: bool) -> int:
    """What the process takes now, with all that a training imports, and what was freed given back."""
    import datasets  # noqa: F401
    import peft  # noqa: F401
    from trl import SFTTrainer  # noqa: F401

    if packs:
        with contextlib.suppress(ImportError):
            import bitsandbytes  # noqa: F401
    give_back_freed()
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        import psutil

        return int(psutil.Process().memory_info().rss)
