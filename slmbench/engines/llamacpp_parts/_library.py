"""llama.cpp's C library behind one door: weights, contexts of token sequences, adapters.

llama-cpp-python's own `Llama` keeps a row of logits a position, chooses tokens itself and renders templates itself, so
only its bindings are used.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from slmbench.errors import EngineError
from slmbench.machine import usable_cores
from slmbench.paths import shown
from slmbench.values import Array

BATCH_TOKENS = 256
"""Tokens that one call computes at most: Ctrl-C waits for a call."""
_ROWS_BYTES = 64 * 2**20
_ALL_LAYERS = 9_999


def bindings() -> ModuleType:
    """llama_cpp, which says nothing on its own."""
    library = importlib.import_module("llama_cpp")
    library.llama_log_set(_silence(), ctypes.c_void_p(0))
    return library


@functools.lru_cache(maxsize=1)
def _silence() -> Any:
    """The callback that llama.cpp writes through; kept, as the library holds on to it."""
    return importlib.import_module("llama_cpp").llama_log_callback(lambda level, text, data: None)


def build_of() -> str:
    """What llama.cpp was built for, as `AVX2 FMA F16C`: what it says is on."""
    said = bindings().llama_print_system_info().decode("utf-8", "replace")
    on = [
        part.split("=")[0].strip().rpartition(":")[2].strip() for part in said.split("|") if part.strip()[-3:] == "= 1"
    ]
    return " ".join(dict.fromkeys(on))


class Weights:
    """A GGUF file's model in llama.cpp's memory (mapped where it can be). repack: whether weights may be laid out anew
    for the processor. Raises EngineError for a file that llama.cpp doesn't load.
    """

    def __init__(self, path: str, *, repack: bool, adapters: Sequence[str] = ()) -> None:
        self.library = library = bindings()
        self.path = path
        self.handle: Any = None
        library.llama_backend_init()
        params = library.llama_model_default_params()
        params.use_extra_bufts = repack
        params.n_gpu_layers = _ALL_LAYERS if library.llama_supports_gpu_offload() else 0
        self.handle = library.llama_model_load_from_file(os.fsencode(path), params)
        if not self.handle:
            raise EngineError(
                f"llama.cpp doesn't load {shown(path)}: the file is damaged, or of an architecture that this build "
                "doesn't know; --engine shared may read it"
            )
        self.vocabulary = int(library.llama_vocab_n_tokens(library.llama_model_get_vocab(self.handle)))
        self.window = int(library.llama_model_n_ctx_train(self.handle))
        self._adapters: dict[str, Any] = {}

    @property
    def bytes(self) -> int:
        """Of all tensors, as they are packed."""
        return int(self.library.llama_model_size(self.handle))

    @property
    def is_float32(self) -> bool:
        """Whether all weights are in 32 bits: such a file stands for the model itself, and is computed so."""
        return self.bytes >= 4 * int(self.library.llama_model_n_params(self.handle))

    def is_plain_decoder(self) -> bool:
        """Whether a text's keys and values can be cut at any place: no encoder, no running state."""
        library, handle = self.library, self.handle
        odd = (
            library.llama_model_has_encoder(handle),
            library.llama_model_is_recurrent(handle),
            library.llama_model_is_hybrid(handle),
            library.llama_model_is_diffusion(handle),
        )
        return not any(odd)

    def token_texts(self) -> list[str]:
        """Each token as the file has it."""
        vocabulary = self.library.llama_model_get_vocab(self.handle)
        read = self.library.llama_vocab_get_text
        return [(read(vocabulary, token) or b"").decode("utf-8", "replace") for token in range(self.vocabulary)]

    def adapter(self, path: str) -> Any:
        """A LoRA adapter's file, loaded once. Raises EngineError if it doesn't fit."""
        if path not in self._adapters:
            handle = self.library.llama_adapter_lora_init(self.handle, os.fsencode(path))
            if not handle:
                raise EngineError(f"llama.cpp doesn't take the adapter {shown(path)} on {shown(self.path)}")
            self._adapters[path] = handle
        return self._adapters[path]

    def close(self) -> None:
        """Gives the memory back; contexts over it are closed before."""
        handle, self.handle = self.handle, None
        if handle:
            self.library.llama_model_free(handle)  # With its adapters.


class Sequences:
    """A context: token sequences by number, whose keys and values are kept.

    cells: tokens that fit, of all sequences if they share a store (`shared`), else of each. adapter: of `Weights`,
    None for the base alone. Raises EngineError if there is no memory for it.
    """

    def __init__(self, weights: Weights, *, cells: int, sequences: int, shared: bool, adapter: Any = None) -> None:
        self.weights, self.library = weights, weights.library
        self.cells, self.sequences = cells, sequences
        params = self.library.llama_context_default_params()
        params.n_ctx = cells if shared else cells * sequences
        params.n_seq_max = sequences
        params.n_batch = params.n_ubatch = BATCH_TOKENS
        # Else there is room for a row of logits for each token of a batch.
        self.rows = max(1, min(BATCH_TOKENS, _ROWS_BYTES // (4 * weights.vocabulary)))
        params.n_outputs_max = self.rows
        params.n_threads = params.n_threads_batch = usable_cores()
        params.kv_unified = shared
        params.no_perf = True
        if weights.is_float32:  # llama.cpp rounds keys and values to 16 bits of itself, and attention with them.
            params.type_k = params.type_v = self.library.GGML_TYPE_F32
            params.flash_attn_type = self.library.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.handle = self.library.llama_init_from_model(weights.handle, params)
        if not self.handle:
            raise EngineError(
                f"llama.cpp has no room for {cells:,} tokens{'' if shared else f' in {sequences} sequences'} beside "
                f"{shown(weights.path)}; a smaller --batch, or fewer worked examples, takes less"
            )
        self.memory = self.library.llama_get_memory(self.handle)
        if adapter is not None:
            self._put_on(adapter)
        self._room()

    def _put_on(self, adapter: Any) -> None:
        one, scale = (type(adapter) * 1)(adapter), (ctypes.c_float * 1)(1.0)
        if self.library.llama_set_adapters_lora(self.handle, one, 1, scale) != 0:
            raise EngineError(f"llama.cpp doesn't put the adapter on {shown(self.weights.path)}")

    def _room(self) -> None:
        """One batch's arrays, filled for each call; what points into them is made once."""
        import numpy as np

        self._tokens = np.zeros(BATCH_TOKENS, dtype=np.int32)
        self._places = np.zeros(BATCH_TOKENS, dtype=np.int32)
        self._counts = np.ones(BATCH_TOKENS, dtype=np.int32)
        self._whose = np.zeros(BATCH_TOKENS, dtype=np.int32)
        self._wanted = np.zeros(BATCH_TOKENS, dtype=np.int8)
        first, step = self._whose.ctypes.data, self._whose.itemsize
        ids = ctypes.POINTER(ctypes.c_int32)
        self._owners = (ids * (BATCH_TOKENS + 1))()
        for at in range(BATCH_TOKENS):
            self._owners[at] = ctypes.cast(first + at * step, ids)
        batch = self.library.llama_batch()
        batch.token = self._tokens.ctypes.data_as(type(batch.token))
        batch.embd = None
        batch.pos = self._places.ctypes.data_as(type(batch.pos))
        batch.n_seq_id = self._counts.ctypes.data_as(type(batch.n_seq_id))
        batch.seq_id = ctypes.cast(self._owners, type(batch.seq_id))
        batch.logits = self._wanted.ctypes.data_as(type(batch.logits))
        self._batch = batch

    def feed(
        self, tokens: Sequence[int], places: Sequence[int], whose: Sequence[int], wanted: Sequence[bool]
    ) -> Iterator[tuple[int, Array]]:
        """Computes tokens, each at its place in its sequence; (index of the first wanted, their logits) call by call.

        wanted: whose logits are asked for. Logits: (wanted of the call, vocab), float32, a view that the next call
        overwrites. Raises EngineError where llama.cpp gives up.
        """
        import numpy as np

        flags = np.fromiter(wanted, dtype=np.int8, count=len(tokens))
        before = np.concatenate(([0], np.cumsum(flags)))
        low = 0
        while low < len(tokens):
            most = int(np.searchsorted(before, before[low] + self.rows, side="right")) - 1
            high = min(low + BATCH_TOKENS, max(most, low + 1), len(tokens))
            n = high - low
            self._tokens[:n], self._places[:n] = tokens[low:high], places[low:high]
            self._whose[:n], self._wanted[:n] = whose[low:high], flags[low:high]
            self._compute(n)
            if (found := int(before[high] - before[low])) > 0:
                logits = self.library.llama_get_logits(self.handle)
                yield int(before[low]), np.ctypeslib.as_array(logits, shape=(found, self.weights.vocabulary))
            low = high

    def _compute(self, n: int) -> None:
        self._batch.n_tokens = n
        code = self.library.llama_decode(self.handle, self._batch)
        if code == 1:
            raise EngineError(f"llama.cpp has no room left among {self.cells:,} tokens; a smaller --batch takes less")
        if code != 0:
            raise EngineError(f"llama.cpp gave up computing {n} tokens (code {code})")

    def cut(self, sequence: int, length: int) -> None:
        """Forgets what a sequence has from a place on. Raises EngineError for a model that can't."""
        if not self.library.llama_memory_seq_rm(self.memory, sequence, length, -1):
            raise EngineError(f"llama.cpp can't cut a text of {shown(self.weights.path)}: its states run on")

    def copy(self, source: int, target: int, length: int = -1) -> None:
        """Gives a sequence what another has, up to a place; without shared storage, all of it."""
        self.library.llama_memory_seq_cp(self.memory, source, target, -1 if length < 0 else 0, length)

    def close(self) -> None:
        """Gives the memory back."""
        handle, self.handle = self.handle, None
        if handle:
            self.library.llama_free(handle)
