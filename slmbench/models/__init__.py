"""Models and adapters: from a name to weights in memory, with what identifies both."""

from slmbench.models._adapters import AdapterInfo, attach_adapter, check_base, read_adapter
from slmbench.models._core import core_model, dispatches_attention, exchange_attention
from slmbench.models._digest import tokenizer_sha256
from slmbench.models._load import LoadedModel, bind_model, load_config, load_model, load_tokenizer
from slmbench.models._source import ModelSource, resolve_model

__all__ = [
    "AdapterInfo",
    "LoadedModel",
    "ModelSource",
    "attach_adapter",
    "bind_model",
    "check_base",
    "core_model",
    "dispatches_attention",
    "exchange_attention",
    "load_config",
    "load_model",
    "load_tokenizer",
    "read_adapter",
    "resolve_model",
    "tokenizer_sha256",
]
