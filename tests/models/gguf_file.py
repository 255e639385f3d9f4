"""Writes the embedded model as a GGUF file by llama.cpp's own package, as its converter would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

HEAD = {
    "context_length": 1024,
    "embedding_length": 128,
    "block_count": 4,
    "feed_forward_length": 384,
    "attention.head_count": 4,
    "attention.head_count_kv": 4,
    "rope.dimension_count": 32,
    "vocab_size": 1024,
}


def write_gguf(
    path: Path,
    loaded: Any,
    *,
    architecture: str = "llama",
    kind: str = "model",
    packing: str = "F16",
    pre: str = "smollm",
    parts: int = 0,
    left_out: tuple[str, ...] = (),
    more: dict[str, Any] | None = None,
    numbers: dict[str, Any] | None = None,
) -> Path:
    """loaded: the embedded model. more: keys of the architecture; numbers: tensors beside the model's."""
    import gguf

    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type(kind)
    if parts:
        writer.add_uint16("split.count", parts)
    for key, value in (HEAD | (more or {})).items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
        add(f"{architecture}.{key}", value)
    writer.add_float32(f"{architecture}.rope.freq_base", 10000.0)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-6)
    _add_tokenizer(writer, loaded.tokenizer, pre)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 4)
    for name, tensor in loaded.model.state_dict().items():
        stem, _, last = name.rpartition(".")
        if name == "lm_head.weight" or name in left_out:
            continue
        values = tensor.float().numpy()
        if ".q_proj." in name or ".k_proj." in name:  # llama.cpp turns neighbours, transformers halves.
            values = values.reshape(4, 2, 16, 128).swapaxes(1, 2).reshape(128, 128)
        _add(writer, f"{names.get_name(stem)}.{last}", values, packing)
    for name, values in (numbers or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: Any, name: str, values: Any, packing: str) -> None:
    import gguf

    kind = gguf.GGMLQuantizationType["F32" if values.ndim == 1 else packing]
    writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)


def _add_tokenizer(writer: Any, tokenizer: Any, pre: str) -> None:
    import json

    import gguf

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    special = {token["id"] for token in state["added_tokens"] if token["special"]}
    tokens = tokenizer.convert_ids_to_tokens(range(1024))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    kinds = gguf.TokenType
    writer.add_token_types([kinds.CONTROL if i in special else kinds.NORMAL for i in range(1024)])
    writer.add_token_merges(
        [merge if isinstance(merge, str) else " ".join(merge) for merge in state["model"]["merges"]]
    )
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(1)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template)
