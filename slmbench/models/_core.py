"""The model of transformers inside its wrappers, and what its attention sees."""

from __future__ import annotations

from collections.abc import Callable

from slmbench.values import Config, Model, Tensor

# Without their window these models would see too far; with these the layers hand it to the attention function.
WINDOWED = frozenset({"phi3", "qwen2", "qwen3", "mistral", "smollm3"})


def core_model(model: Model) -> Model:
    """The model of transformers inside wrappers: peft's, accelerate's, a parallel one's."""
    import torch

    if isinstance(model, torch.nn.parallel.DistributedDataParallel):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def adapter_of(model: Model) -> str:
    """The sha256 of the adapter that is on a model now; "" for none, or one that slmbench didn't put on."""
    return str(getattr(core_model(model), "slmbench_adapter", ""))


def has_window(config: Config) -> bool:
    """Whether some layer of a model's config sees only so far back."""
    return getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)


def dispatches_attention(core: Model) -> bool:
    """Whether a class says of itself that its attention is a function that can be exchanged, window and all.

    Whether it holds is to be tried.
    """
    config = core.config.get_text_config()
    if getattr(config, "is_encoder_decoder", False) or not getattr(core, "_supports_sdpa", False):
        return False
    return not has_window(config) or config.model_type in WINDOWED


def exchange_attention(core: Model, name: str, attend: Callable[..., tuple[Tensor, None]]) -> None:
    """Has a model attend by `attend` where its mask is one of int32, and by transformers' sdpa where it is any other.

    A mask of four dimensions goes through transformers to the attention function as it is, so that none is built. core:
    its attention is `name` from now on. attend: called as sdpa's function is.
    """
    import torch
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def attention(
        module: Model,
        query: Tensor,
        key: object,
        value: object,
        attention_mask: Tensor,
        *more: object,
        **options: object,
    ) -> tuple[Tensor, None]:
        ours = attention_mask is not None and attention_mask.dtype == torch.int32
        return (attend if ours else sdpa_attention_forward)(module, query, key, value, attention_mask, *more, **options)

    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, sdpa_mask)
    core.set_attn_implementation(name)
