"""How quick one stream is: tokens read a second, tokens written a second, measured on any engine in a few seconds."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Iterator
from typing import Any

from attrs import frozen

from slmbench.console import phase
from slmbench.engines.protocol import Engine, WriteRequest
from slmbench.errors import SlmbenchError
from slmbench.models import LoadedModel, ModelApart, is_apart, model_folder

READ_TOKENS = 256
WRITTEN_TOKENS = 32
_TIMES = 3
_ENOUGH_S = 10.0
_FEWEST_TOKENS = 8
_TEXT = (
    "The ward keeps a list of what was given to whom and at what time. A nurse reads it before the round, writes down "
    "what has changed since, and asks whoever was there before about anything that is missing. "
)
_WEIGHTS = (".safetensors", ".bin", ".gguf")


@frozen
class Speed:
    """Of one stream alone. prefill, decode: tokens a second; None if a text ended at once.

    model_B: bytes of the weights' files on disk; load_s: seconds that they took to load; None if unknown.
    """

    prefill_tokens_per_s: float | None
    decode_tokens_per_s: float | None
    load_s: float | None
    model_B: int | None


def measured_speed(engine: Engine, loaded: LoadedModel) -> Speed:
    """Reads READ_TOKENS and writes one token, then WRITTEN_TOKENS more, some times over; medians.

    Warms up first, so that loading is no part of it. Raises what the engine raises.
    """
    tokenizer = loaded.tokenizer
    most = min(READ_TOKENS, engine.max_length - WRITTEN_TOKENS - 1)
    ids = list(tokenizer.encode(_TEXT * 64, add_special_tokens=False))
    reads, writes = [], []
    with phase("measuring one stream"):
        began = time.perf_counter()
        for number in range(_TIMES + 1):
            # Another beginning each time: what a server has read before, it may not read again.
            prompt = [*ids[number + 1 : number + 2], *ids[number : number + most - 1]]
            first_s, _ = _taken(engine, tokenizer.decode(prompt), prompt, 1, number)
            whole_s, written = _taken(engine, tokenizer.decode(prompt), prompt, 1 + WRITTEN_TOKENS, number)
            if number:
                reads.append(first_s)
                # Of a text that ends soon, the difference of two readings would be taken for its writing.
                if written > _FEWEST_TOKENS:
                    writes.append((whole_s - first_s) / (written - 1))
                if time.perf_counter() - began > _ENOUGH_S:
                    break
    each, step = statistics.median(reads), statistics.median(writes) if writes else 0.0
    reader: Any = loaded.model.reader if isinstance(loaded.model, ModelApart) else None
    load_s = getattr(reader, "load_s", None) if is_apart(loaded) else loaded.load_s
    return Speed(
        prefill_tokens_per_s=round(most / each, 2) if each > 0 else None,
        decode_tokens_per_s=round(1 / step, 2) if step > 0 else None,
        load_s=None if load_s is None else round(load_s, 3),
        model_B=weights_bytes(loaded),
    )


def _taken(engine: Engine, text: str, prompt: list[int], tokens: int, number: int) -> tuple[float, int]:
    """(seconds, tokens written) of one text."""
    kwargs = {"until": [], "do_sample": False, "max_gen_toks": tokens}
    asked = WriteRequest(("speed", number), text, prompt, kwargs)
    before = time.perf_counter()
    ((_, answer),) = engine.write([asked])
    return time.perf_counter() - before, answer.tokens_out


def weights_bytes(loaded: LoadedModel) -> int | None:
    """What a model's weights take on disk; None if they are in no files here."""
    found: Iterator[str]
    if loaded.served is not None:
        return None
    if isinstance(loaded.model, ModelApart) and loaded.model.file is not None:
        return os.path.getsize(loaded.model.file)
    with contextlib.suppress(OSError, SlmbenchError):  # Of a model that came from memory there is no folder.
        folder = model_folder(loaded.source)
        found = (os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(_WEIGHTS))
        return sum(os.path.getsize(path) for path in found) or None
    return None
