"""The real pretrained 260K-parameter Llama of llama2.c, read from its own two files into transformers.

Not shipped: `SLMBENCH_STORIES260K` names a folder with `stories260K.bin` and `tok512.bin` (first published as
karpathy/tinyllamas on the hub). Formats: karpathy/llama2.c, legacy export.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any


def load(folder: Path) -> tuple[Any, Any]:
    """(model in float32, tokenizer)."""
    return _model(folder / "stories260K.bin"), _tokenizer(folder / "tok512.bin")


def _model(path: Path) -> Any:
    import numpy as np
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    raw = path.read_bytes()
    dim, hidden, layers, heads, kv_heads, vocab, context = struct.unpack("<7i", raw[:28])
    floats = np.frombuffer(raw[28:], dtype="<f4")
    at = 0

    def take(*shape: int) -> Any:
        nonlocal at
        size = int(np.prod(shape))
        tensor = torch.from_numpy(floats[at : at + size].reshape(shape).copy())
        at += size
        return tensor

    def halves(weight: Any, n: int) -> Any:
        # Rotary pairs (0,1), (2,3) ... of each head to transformers' first and second halves.
        rows = weight.shape[0]
        return weight.reshape(n, rows // n // 2, 2, dim).transpose(1, 2).reshape(rows, dim)

    kv_dim = dim // heads * kv_heads
    state = {"model.embed_tokens.weight": take(vocab, dim)}
    stacked = {
        "input_layernorm": take(layers, dim),
        "self_attn.q_proj": take(layers, dim, dim),
        "self_attn.k_proj": take(layers, kv_dim, dim),
        "self_attn.v_proj": take(layers, kv_dim, dim),
        "self_attn.o_proj": take(layers, dim, dim),
        "post_attention_layernorm": take(layers, dim),
        "mlp.gate_proj": take(layers, hidden, dim),
        "mlp.down_proj": take(layers, dim, hidden),
        "mlp.up_proj": take(layers, hidden, dim),
    }
    state["model.norm.weight"] = take(dim)
    for name, tensors in stacked.items():
        for layer, tensor in enumerate(tensors):
            if name == "self_attn.q_proj":
                tensor = halves(tensor, heads)
            elif name == "self_attn.k_proj":
                tensor = halves(tensor, kv_heads)
            state[f"model.layers.{layer}.{name}.weight"] = tensor.contiguous()
    model = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=dim,
            intermediate_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            vocab_size=vocab,
            max_position_embeddings=context,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
        )
    )
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    return model.eval()


def _tokenizer(path: Path) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    raw = path.read_bytes()
    at = 4
    pieces: list[str] = []
    scores: list[float] = []
    while at < len(raw):
        score, size = struct.unpack("<fi", raw[at : at + 8])
        pieces.append(raw[at + 8 : at + 8 + size].decode("utf-8").replace(" ", "\u2581"))
        scores.append(score)
        at += 8 + size
    pieces[:3] = ["<unk>", "<s>", "</s>"]
    for byte in range(256):
        pieces[3 + byte] = f"<0x{byte:02X}>"
    vocab = {piece: index for index, piece in enumerate(pieces)}
    # SentencePiece joins the pair whose piece scores highest; as merges, that is every split, by its piece's score.
    merges = [
        (scores[vocab[piece]], piece[:cut], piece[cut:])
        for piece in pieces[259:]
        for cut in range(1, len(piece))
        if piece[:cut] in vocab and piece[cut:] in vocab
    ]
    merges.sort(key=lambda merge: -merge[0])
    bpe = Tokenizer(
        models.BPE(vocab, [(a, b) for _, a, b in merges], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="</s>",
        model_max_length=512,
    )
