"""llama.cpp itself as the oracle, by its own C interface: a file's tokens, logits and greedy texts."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class LlamaCppModel:
    """An open file. ids(text) cuts a text without adding BOS; logits(ids) -> (ids, vocabulary) float32, a copy."""

    def __init__(self, module: Any, model: Any, context: Any) -> None:
        self.module, self.model, self.context = module, model, context
        self.vocab = module.llama_model_get_vocab(model)
        self.rows = module.llama_vocab_n_tokens(self.vocab)

    def ids(self, text: str) -> list[int]:
        data = text.encode()
        room = (self.module.llama_token * (len(data) + 8))()
        n = self.module.llama_tokenize(self.vocab, data, len(data), room, len(room), False, True)
        assert n >= 0
        return list(room[:n])

    def adds_bos(self) -> bool:
        return bool(self.module.llama_vocab_get_add_bos(self.vocab))

    def logits(self, ids: Sequence[int], *, kept: int = 0, last: bool = False) -> Any:
        """kept: so many tokens stand already in the context. last: of the last token alone."""
        import numpy

        if not kept:
            self.module.llama_memory_clear(self.module.llama_get_memory(self.context), True)
        batch = self.module.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, number in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = number, kept + i, 1, 0
            batch.logits[i] = not last or i == len(ids) - 1
        assert self.module.llama_decode(self.context, batch) == 0
        wanted = [len(ids) - 1] if last else range(len(ids))
        rows = [
            numpy.ctypeslib.as_array(self.module.llama_get_logits_ith(self.context, i), shape=(self.rows,)).copy()
            for i in wanted
        ]
        self.module.llama_batch_free(batch)
        return numpy.stack(rows)

    def greedy(self, ids: Sequence[int], n: int) -> list[int]:
        """The next n tokens, whatever they are: ends of texts too."""
        found, kept, given = [], 0, list(ids)
        for _ in range(n):
            row = self.logits(given, kept=kept, last=True)[0]
            kept += len(given)
            given = [int(row.argmax())]
            found += given
        return found

    def put(self, adapter: str) -> None:
        """Puts a LoRA file on the model, at its own scale."""
        loaded = self.module.llama_adapter_lora_init(self.model, adapter.encode())
        assert loaded
        scales = (ctypes.c_float * 1)(1.0)
        adapters = (self.module.llama_adapter_lora_p_ctypes * 1)(loaded)
        assert self.module.llama_set_adapters_lora(self.context, adapters, 1, scales) == 0


@contextmanager
def llama_cpp_model(path: str, *, vocabulary_alone: bool = False, reach: int = 512) -> Iterator[LlamaCppModel]:
    import llama_cpp

    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = vocabulary_alone
    # Not by the tiles of AMX: where the system doesn't let a process use them, it dies of a signal.
    params.use_extra_bufts = False
    model = llama_cpp.llama_model_load_from_file(path.encode(), params)
    assert model, f"llama.cpp doesn't load {path}"
    context = None
    try:
        if not vocabulary_alone:
            asked = llama_cpp.llama_context_default_params()
            asked.n_ctx = asked.n_batch = asked.n_ubatch = reach
            asked.n_threads = asked.n_threads_batch = 2
            asked.flash_attn_type = 0
            asked.type_k = asked.type_v = llama_cpp.GGML_TYPE_F32
            context = llama_cpp.llama_init_from_model(model, asked)
            assert context
        yield LlamaCppModel(llama_cpp, model, context)
    finally:
        if context:
            llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)
