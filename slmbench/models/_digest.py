"""What identifies a model: digests of its weights, its config and its tokenizer."""

from __future__ import annotations

import hashlib
import json

from slmbench.values import Model, Tokenizer


def weights_sha256(model: Model) -> str:
    """The digest of all tensors in memory, in whatever files and order they came; of packed ones with their constants.

    One tensor at a time goes through it, without a copy where it lies on the CPU.
    """
    import torch

    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def config_sha256(model: Model) -> str:
    """The digest of config and generation config, without what says only where they came from."""
    # Weights alone are not a model: the same ones under another rope base or norm epsilon give other numbers.
    configs = [model.config.to_dict(), model.generation_config.to_dict() if model.generation_config else {}]
    for config in configs:
        for key in ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures"):
            config.pop(key, None)
    return hashlib.sha256(json.dumps(configs, sort_keys=True, default=str).encode()).hexdigest()


def tokenizer_sha256(tokenizer: Tokenizer) -> str:
    """The digest of a tokenizer's vocabulary, merges and special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        state = json.loads(backend.to_str())
        # The last call's padding and cutting are left in there; they are not part of what a tokenizer is.
        state.pop("padding", None), state.pop("truncation", None)
    else:
        state = sorted(tokenizer.get_vocab().items())
    parts = json.dumps([state, tokenizer.special_tokens_map], sort_keys=True, default=str)
    return hashlib.sha256(parts.encode()).hexdigest()
