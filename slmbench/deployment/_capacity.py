"""What a model takes on this machine and how quick it would be, packed in every way, measured in some seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

from attrs import frozen

from slmbench.catalog import Catalog
from slmbench.console import phase, say
from slmbench.engines.options import EngineOptions
from slmbench.engines.speed import measured_speed
from slmbench.errors import SlmbenchError, UsageError
from slmbench.machine import available_bytes, resident_bytes, usable_cores
from slmbench.models import describe_gguf, load_config, load_gguf, resolve_model
from slmbench.values import Config, JsonObject, Model

CONTEXT_TOKENS = 2048
"""Of the keys and values that memory is told with."""
WAYS = (
    ("float32", 32.0, "shared, hf"),
    ("bfloat16", 16.0, "shared, hf"),
    ("f16", 16.0, "llamacpp"),
    ("q8_0", 8.5, "llamacpp"),
    ("q6_k", 6.5625, "llamacpp"),
    ("q5_k_m", 5.69, "llamacpp"),
    ("q4_k_m", 4.85, "llamacpp"),
    ("q4_0", 4.5, "llamacpp"),
)
"""(packing, bits a weight, engines). Of the mixes with an M, what a Llama of 7 billion comes to (llama.cpp)."""
_MEASURE_S = 1.2
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "sve")


@frozen
class Fit:
    """A model in one packing. memory_bytes: weights, keys and values of CONTEXT_TOKENS, and room to compute.

    decode, prefill: tokens a second of one stream; measured: on the very file, and not reckoned from the machine's
    speed. fits: whether the memory is free now; None if that can't be told.
    """

    packing: str
    engines: str
    file_bytes: int
    memory_bytes: int
    decode_tokens_per_s: float
    prefill_tokens_per_s: float
    fits: bool | None
    measured: bool = False


@frozen
class Capacity:
    """What a machine can do with a model. bytes_per_s: read from memory by a product that is no larger than a layer's.

    flops: of float32 products a second. llamacpp: its version and build, None if it isn't installed.
    """

    model: str
    parameters: int
    layers: int | None
    context_tokens: int | None
    cores: int
    flags: tuple[str, ...]
    free_bytes: int | None
    llamacpp: str | None
    bytes_per_s: float
    flops: float
    fits: tuple[Fit, ...]

    def as_json(self) -> JsonObject:
        from attrs import asdict

        return asdict(self)


def capacity(name: str, catalog: Catalog) -> Capacity:
    """Measures for some five seconds; nothing is written but what a GGUF file's head needs in the cache.

    Raises UsageError for a model that isn't known, OfflineError for one whose config isn't here.
    """
    source = resolve_model(name, catalog, unpacked=False)
    if source.file is not None:
        loaded = load_gguf(source)
        skeleton, config = loaded.model.skeleton, loaded.model.config
    else:
        config = load_config(source)
        try:
            skeleton = empty_model(config)
        except Exception as error:  # Of a config of anyone's.
            raise UsageError(f"the config of {source.name!r} makes no model: {error}") from error
    parameters = sum(parameter.numel() for parameter in skeleton.parameters())
    free = available_bytes("cpu")
    free = None if free is None else max(0, free - resident_bytes())
    with phase("measuring this machine"):
        bytes_per_s, flops = _read_speed(), _product_speed()
    text = config.get_text_config()
    kept = _kept_bytes(text)
    # The embeddings are looked up, a row a token; a tied head is read whole.
    read = parameters - (0 if getattr(config, "tie_word_embeddings", False) else _embedding_numbers(skeleton))
    fits = []
    for packing, bits, engines in WAYS:
        size = int(parameters * bits / 8)
        of_text = kept * 2 if bits == 32 else kept  # 16 bits a number, but beside float32 weights.
        memory = size + of_text + _room_bytes(text)
        moved = read * bits / 8 + of_text / 2
        fits.append(
            Fit(
                packing,
                engines,
                size,
                memory,
                round(bytes_per_s / moved, 1),
                round(flops / (2 * read), 1),
                None if free is None else memory < free,
            )
        )
    if source.file is not None and (
        own := _measured(source.file, loaded, kept=kept, room=_room_bytes(text), free=free)
    ):
        fits.append(own)
    return Capacity(
        model=source.name,
        parameters=parameters,
        layers=getattr(text, "num_hidden_layers", None),
        context_tokens=source.context_tokens or getattr(text, "max_position_embeddings", None),
        cores=usable_cores(),
        flags=_flags(),
        free_bytes=free,
        llamacpp=_llamacpp(),
        bytes_per_s=bytes_per_s,
        flops=flops,
        fits=tuple(fits),
    )


def empty_model(config: Config) -> Model:
    """A config's model on the meta device: names and shapes, no numbers. Raises what transformers makes of a config."""
    import torch
    import transformers

    auto = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    with torch.device("meta"):
        return auto.from_config(config)


def _measured(path: str, loaded: Any, *, kept: int, room: int, free: int | None) -> Fit | None:
    """The file itself in llama.cpp; None if that isn't installed, or doesn't run it, which is said.

    kept: bytes of keys and values in 16 bits. room: bytes to compute in.
    """
    options = EngineOptions("llamacpp")
    try:
        options.require()
        engine = options.registered.function(loaded, options, 0)
        speed = measured_speed(engine, loaded)
    except SlmbenchError as error:
        say(f"note: the file itself was not measured: {error}")
        return None
    finally:
        loaded.model.close()
    if speed.decode_tokens_per_s is None or speed.prefill_tokens_per_s is None or speed.model_B is None:
        say("note: the file itself was not measured: it ends its text at once")
        return None
    packing = str(describe_gguf(path)["packing"]).lower()
    memory = speed.model_B + room + kept * (2 if packing == "f32" else 1)
    fits = None if free is None else memory < free
    rates = speed.decode_tokens_per_s, speed.prefill_tokens_per_s
    return Fit(f"this file ({packing})", "llamacpp", speed.model_B, memory, *rates, fits, measured=True)


def _read_speed() -> float:
    """Bytes a second that products of a matrix with one vector read: what one stream is bound by."""
    import torch

    matrices = [torch.ones(2048, 8192) for _ in range(4)]  # 256 MB: no cache holds them.
    vector = torch.ones(8192)
    return _rate(lambda: [matrix @ vector for matrix in matrices], sum(4 * one.numel() for one in matrices))


def _product_speed() -> float:
    """Operations a second of float32 products as large as a prompt's."""
    import torch

    prompt, weights = torch.ones(256, 1024), torch.ones(1024, 1024)
    return _rate(lambda: prompt @ weights, 2 * 256 * 1024 * 1024)


def _rate(work: Callable[[], object], amount: int) -> float:
    """The best of what was done a second in _MEASURE_S: what else runs on the machine only takes away."""
    work()
    best, began = 0.0, time.perf_counter()
    while time.perf_counter() - began < _MEASURE_S:
        before = time.perf_counter()
        work()
        best = max(best, amount / (time.perf_counter() - before))
    return best


def _kept_bytes(text: Config) -> int:
    """Keys and values of CONTEXT_TOKENS in 16 bits."""
    heads = getattr(text, "num_attention_heads", 0) or 0
    width = getattr(text, "head_dim", None) or (getattr(text, "hidden_size", 0) or 0) // max(1, heads)
    kept = getattr(text, "num_key_value_heads", None) or heads
    return 2 * 2 * CONTEXT_TOKENS * int(getattr(text, "num_hidden_layers", 0) or 0) * kept * width


def _room_bytes(text: Config) -> int:
    """What is computed at once: some hundred megabytes of a process, and one row of logits beside a batch of states."""
    return 150_000_000 + 4 * (int(text.vocab_size) + 512 * 8 * int(getattr(text, "hidden_size", 0) or 0))


def _embedding_numbers(skeleton: Model) -> int:
    return int(skeleton.get_input_embeddings().weight.numel())


def _flags() -> tuple[str, ...]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            line = next((one for one in file if one.lower().startswith(("flags", "features"))), "")
    except OSError:
        return ()
    there = set(line.split())
    return tuple(flag for flag in _FLAGS if flag in there)


def _llamacpp() -> str | None:
    try:
        version = metadata.version("llama-cpp-python")
    except metadata.PackageNotFoundError:
        return None
    from slmbench.engines.llamacpp_parts import build_of

    return f"llama-cpp-python {version}: {build_of()}"
