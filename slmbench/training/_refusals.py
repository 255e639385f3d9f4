"""What can't work on this model or this machine, said before a weight is loaded, each with the way out."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator

from slmbench.errors import UsageError, did_you_mean
from slmbench.formats import Format
from slmbench.machine import usable_cores
from slmbench.models import ModelSource
from slmbench.schema import OptimSpec, RecipeSpec
from slmbench.training._forecast import weights_dtype
from slmbench.training._shapes import adapted_layers, empty_model, head_is_tied, head_names, is_target, linear_layers
from slmbench.training._team import Team
from slmbench.values import Config, Model, Tokenizer

_LINES = "a: 1\n  b: 2\nc: 3"


def refuse_impossible(
    spec: RecipeSpec,
    optim: OptimSpec,
    source: ModelSource,
    config: Config,
    tokenizer: Tokenizer,
    *,
    device: str,
    format: Format,
    team: Team | None = None,
) -> None:
    """Raises UsageError for a recipe that can't be trained, a line for each reason, with what to set instead.

    config: transformers', of the model. device: cpu or cuda. team: None if this process isn't one of several that train
    together. Nothing is loaded: modules are looked up in a model without weights.
    """
    faults = [
        *(launch_faults(spec, optim, device) if team is None else ()),
        *_of_machine(spec, optim, source, device),
        *_of_text(spec, source, config, tokenizer, format),
        *(_of_adapter(spec, source, config) if spec.method != "full" else ()),
    ]
    if faults:
        raise UsageError("\n".join(faults))


def launch_faults(spec: RecipeSpec, optim: OptimSpec, device: str) -> Iterator[str]:
    """What speaks against as many processes as a recipe wants, each with the way out. device: cpu or cuda."""
    n, step = spec.launch.processes, optim.batch * optim.accumulate
    given = os.environ.get("WORLD_SIZE", "1")
    if given.isdigit() and int(given) > 1:
        yield (
            f"WORLD_SIZE: is {given}, but slmbench starts the processes of a training itself; run it without torchrun "
            f"or `accelerate launch`, with `--set launch.processes={given}` if that many are to train together"
        )
    if n == 1:
        return
    there, unit = _places(device)
    if n > there:
        yield (
            f"launch.processes: is {n}, but this machine has {there} {unit}{'s' * (there != 1)}, and each process "
            f"takes one; `--set launch.processes={there}`"
        )
    elif n > step and not spec.packing:
        yield f"launch.processes: is {n}, but a step has {step} row{'s' * (step != 1)}; `--set launch.processes={step}`"
    elif n > optim.batch and not spec.packing:
        batch = next(size for size in range(n, step + 1) if step % size == 0)
        yield (
            f"optim.batch: {n} processes can't share a micro-batch of {optim.batch}; the same step in larger ones: "
            f"`--set optim.batch={batch} --set optim.accumulate={step // batch}`"
        )


def _places(device: str) -> tuple[int, str]:
    """(how many processes can train together here, what each has for itself)."""
    if device == "cuda":
        import torch

        return torch.cuda.device_count(), "GPU"
    return usable_cores(), "core"


def _of_machine(spec: RecipeSpec, optim: OptimSpec, source: ModelSource, device: str) -> Iterator[str]:
    dtype = weights_dtype(spec, source, device)
    compute = spec.quantization.compute if spec.method == "qlora" and spec.quantization is not None else "auto"
    if device == "cpu":
        if optim.optimizer == "paged_adamw_8bit":
            # bitsandbytes warns and goes on with states that are not paged.
            yield (
                "optim.optimizer: 'paged_adamw_8bit' pages between a GPU and memory, and there is no GPU here; "
                "`--set optim.optimizer=adamw_8bit`"
            )
        if dtype == "float16":
            # Nothing scales gradients on a CPU: those below 6e-8 become 0 without a word.
            whose = "the recipe's" if spec.dtype == "float16" else f"that of model {source.name!r}"
            yield (
                f"dtype: float16 ({whose}) is trained on a GPU alone, as gradients get lost in it elsewhere; "
                "`--set dtype=bfloat16` or `--set dtype=float32`"
            )
        if compute == "float16" and dtype != "float16":
            yield (
                "quantization.compute: float16 is trained on a GPU alone; `--set quantization.compute=bfloat16` or "
                "float32"
            )
    elif "bfloat16" in (dtype, compute) and not _has_bfloat16():
        yield (
            "dtype: this GPU computes no bfloat16; `--set dtype=float16`"
            + (" and `--set quantization.compute=float16`" if compute == "bfloat16" else "")
        )
    if optim.optimizer in ("adamw_8bit", "paged_adamw_8bit"):
        reason = _why_not(_try_optimizer, device)
        if reason is not None:
            yield (
                f"optim.optimizer: {optim.optimizer!r} is bitsandbytes', which doesn't run here: {reason}; "
                "`--set optim.optimizer=adamw_torch`"
            )
    if spec.method == "qlora":
        eight = spec.quantization is not None and spec.quantization.type == "int8"
        reason = _why_not(_try_eight_bits if eight else _try_packing, device)
        if reason is not None:
            yield f"method: 'qlora' needs bitsandbytes, which doesn't run here: {reason}; `--set method=lora`"


def _has_bfloat16() -> bool:
    import torch

    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _why_not(attempt: Callable[[str], None], device: str) -> str | None:
    """Why bitsandbytes can't do something here, None if it can. It is tried, as what it supports changes."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return "it is not installed (`pip install bitsandbytes`)"
    try:
        attempt(device)
    except Exception as error:  # Whatever its own code raises without its library: it has no error of its own for it.
        return " ".join(str(error).split())[:200] or type(error).__name__
    return None


def _try_optimizer(device: str) -> None:
    import torch
    from bitsandbytes.optim import AdamW8bit

    parameter = torch.nn.Parameter(torch.zeros(4096, device=device))
    parameter.grad = torch.ones(4096, device=device)
    AdamW8bit([parameter], lr=1.0).step()
    if not float(parameter.detach().abs().max()) > 0:
        raise RuntimeError("a step of it changes nothing")


def _try_packing(device: str) -> None:
    import torch
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    numbers = torch.linspace(-1, 1, 64 * 64, device=device).view(64, 64)
    packed, state = quantize_4bit(numbers, quant_type="nf4", compress_statistics=True)
    if float((dequantize_4bit(packed, state) - numbers).abs().max()) > 0.5:
        raise RuntimeError("what it packs comes out otherwise")


def _try_eight_bits(device: str) -> None:
    import bitsandbytes as bnb
    import torch

    numbers = torch.linspace(-1, 1, 64 * 64).view(64, 64)
    layer = bnb.nn.Linear8bitLt(64, 64, bias=False, has_fp16_weights=False, threshold=6.0)
    layer.weight = bnb.nn.Int8Params(numbers.clone(), requires_grad=False, has_fp16_weights=False).to(device)
    given = torch.eye(64, device=device, requires_grad=True)
    made = layer(given)
    made.sum().backward()
    slope = given.grad
    if (
        slope is None
        or max(
            float((made.detach().T.cpu() - numbers).abs().max()),
            float((slope.cpu() - numbers.sum(dim=0)).abs().max()) / 64,
        )
        > 0.05
    ):
        raise RuntimeError("what it multiplies comes out otherwise")


def _of_text(
    spec: RecipeSpec, source: ModelSource, config: Config, tokenizer: Tokenizer, format: Format
) -> Iterator[str]:
    context = context_tokens(source, config)
    if context is not None and spec.max_tokens > context:
        yield (
            f"max_tokens: is {spec.max_tokens}, but {source.name!r} has a context of {context}; "
            f"`--set max_tokens={context}`"
        )
    if source.architecture == "seq2seq" and spec.packing:
        yield (
            f"packing: {source.name!r} is an encoder-decoder, whose rows can't lie end to end; `--set packing=false`"
        )
    if source.architecture == "seq2seq" and spec.loss == "all":
        yield (
            f"loss: {source.name!r} is an encoder-decoder, whose prompt is read and never written, so it has no loss; "
            "`--set loss=answer`"
        )
    try:
        format.ends_turn(tokenizer)
    except UsageError as error:
        yield f"format: {error}"
    if format.kind == "object":
        read = tokenizer.decode(tokenizer.encode(_LINES, add_special_tokens=False))
        if read.count("\n") != _LINES.count("\n"):
            # SentencePiece as T5 has it turns a line break into a blank, and a record's lines into one.
            yield (
                f"format: the tokenizer of {source.name!r} has no line breaks, which Toon is made of; "
                "`--set format=plain`"
            )
    size = config.get_text_config().vocab_size
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id >= size:
        yield (
            f"model: the tokenizer's EOS ({tokenizer.eos_token!r}) is token {tokenizer.eos_token_id}, but "
            f"{source.name!r} has {size} tokens: they don't belong together; give a folder where they do"
        )


def context_tokens(source: ModelSource, config: Config) -> int | None:
    """How many tokens a model can take: as its positions allow, else as declared; None if nothing says."""
    # T5 and its like count distances, up to any; what they were trained on is in the declaration.
    size = getattr(config.get_text_config(), "max_position_embeddings", None)
    known = [int(n) for n in (size, source.context_tokens) if n]
    return min(known) if known else None


def _of_adapter(spec: RecipeSpec, source: ModelSource, config: Config) -> Iterator[str]:
    try:
        model = empty_model(config, source.architecture)
    except (ValueError, KeyError, ImportError, TypeError, RuntimeError, AttributeError):
        return  # Code of its own, which loading asks about; peft will look at the targets then.
    targets = spec.lora.targets or source.lora_targets
    targets = targets if isinstance(targets, str) else tuple(targets)
    layers, heads = linear_layers(model), head_names(model)
    kinds = sorted({name.rsplit(".", 1)[-1] for name in layers if name not in heads})
    way_out = f"it has {', '.join(kinds)}; `--set lora.targets=[{', '.join(kinds)}]` or `--set lora.targets=all-linear`"
    adapted = adapted_layers(model, targets)
    if isinstance(targets, tuple):
        modules = [name for name, _ in model.named_modules(remove_duplicate=False)]
        missing = [target for target in targets if not any(is_target(name, (target,)) for name in modules)]
        if len(missing) > 1:
            kind = " (an encoder-decoder)" if source.architecture == "seq2seq" else ""
            yield f"lora.targets: {source.name!r}{kind} has no {', '.join(missing)}; {way_out}"
            targets = tuple(target for target in targets if target not in missing)
        for target in targets:
            hit = [name for name in modules if is_target(name, (target,))]
            if not hit:
                # peft skips it silently where another target is found.
                yield f"lora.targets: {source.name!r} has no {target!r}{did_you_mean(target, kinds)}; {way_out}"
            elif heads.intersection(hit):
                yield _on_head(model, source, target)
            elif not all(_takes_adapter(model.get_submodule(name)) for name in hit):
                # peft raises at the first such module.
                yield f"lora.targets: {target!r} of {source.name!r} is not a layer that takes an adapter; {way_out}"
    elif not adapted:
        yield f"lora.targets: nothing in {source.name!r} matches {targets!r}; {way_out}"
    elif heads.intersection(adapted):
        yield _on_head(model, source, targets)
    small = {name: shape for name, shape in adapted.items() if spec.lora.rank > min(shape) and name not in heads}
    if small:
        name, (size_in, size_out) = min(small.items(), key=lambda item: min(item[1]))
        others = f", and {len(small) - 1} more" if len(small) > 1 else ""
        yield (
            f"lora.rank: is {spec.lora.rank}, but {name} is {size_in} x {size_out}{others}: beyond "
            f"{min(size_in, size_out)} a product of two matrices gets no larger; "
            f"`--set lora.rank={min(size_in, size_out)}`"
        )


def _takes_adapter(module: Model) -> bool:
    import torch

    kinds = (torch.nn.Linear, torch.nn.Embedding, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    return isinstance(module, kinds) or type(module).__name__ == "Conv1D"


def _on_head(model: Model, source: ModelSource, target: str) -> str:
    if head_is_tied(model):
        why = "the head and the input embeddings are one tensor, so an adapter on one would leave the other behind"
    else:
        why = "the loss is taken from the head's own weights, without an adapter"
    return f"lora.targets: {target!r} is the head or the embeddings of {source.name!r}: {why}; leave it out"
