"""The model of transformers inside its wrappers, and what its attention sees."""

from __future__ import annotations

from typing import Any

# Without their window these models would see too far; with these the layers hand it to the attention function.
WINDOWED = frozenset({"phi3", "qwen2", "qwen3", "mistral", "smollm3"})


def core_model(model: Any) -> Any:
    """The model of transformers inside wrappers: peft's, accelerate's, a parallel one's."""
    import torch

    if isinstance(model, torch.nn.parallel.DistributedDataParallel):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def has_window(config: Any) -> bool:
    """Whether some layer of a model's config sees only so far back."""
    return getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)


def dispatches_attention(core: Any) -> bool:
    """Whether a class says of itself that its attention is a function that can be exchanged, window and all.

    Whether it holds is to be tried.
    """
    config = core.config.get_text_config()
    if getattr(config, "is_encoder_decoder", False) or not getattr(core, "_supports_sdpa", False):
        return False
    return not has_window(config) or config.model_type in WINDOWED
