"""Models and adapters: from a name to weights in memory, with what identifies both."""

from slmbench.models._adapters import AdapterInfo, held_as, is_whole_model, read_adapter
from slmbench.models._apart import LoraShape, ModelApart, check_requested, is_apart, let_go, load_apart
from slmbench.models._attach import Attached, adapter_on, attach, attach_adapter
from slmbench.models._base import check_base, check_source, judge_base, other_base
from slmbench.models._core import adapter_of, core_model, dispatches_attention, exchange_attention
from slmbench.models._digest import tokenizer_sha256
from slmbench.models._exchange import exchanged, holds_as_stored
from slmbench.models._files import TensorPlace, asked_by, check_files, file_tensors, placed_tensors
from slmbench.models._gguf import describe_gguf, gguf_metadata, gguf_numbers, is_gguf
from slmbench.models._gguf_apart import load_gguf
from slmbench.models._gguf_lora import check_gguf_lora, gguf_layout, write_gguf_lora
from slmbench.models._load import LoadedModel, bind_model, load_config, load_model, load_tokenizer, model_folder
from slmbench.models._own_tokenizer import has_template, own_tokenizer
from slmbench.models._peft_config import check_config, check_patterns
from slmbench.models._source import ModelSource, is_model_here, refuse_unknown, resolve_model
from slmbench.models._unread import load_unread

__all__ = [
    "AdapterInfo",
    "Attached",
    "LoadedModel",
    "LoraShape",
    "ModelApart",
    "ModelSource",
    "TensorPlace",
    "adapter_of",
    "adapter_on",
    "asked_by",
    "attach",
    "attach_adapter",
    "bind_model",
    "check_base",
    "check_config",
    "check_files",
    "check_gguf_lora",
    "check_patterns",
    "check_requested",
    "check_source",
    "core_model",
    "describe_gguf",
    "dispatches_attention",
    "exchange_attention",
    "exchanged",
    "file_tensors",
    "gguf_layout",
    "gguf_metadata",
    "gguf_numbers",
    "has_template",
    "held_as",
    "holds_as_stored",
    "is_apart",
    "is_gguf",
    "is_model_here",
    "is_whole_model",
    "judge_base",
    "let_go",
    "load_apart",
    "load_config",
    "load_gguf",
    "load_model",
    "load_tokenizer",
    "load_unread",
    "model_folder",
    "other_base",
    "own_tokenizer",
    "placed_tensors",
    "read_adapter",
    "refuse_unknown",
    "resolve_model",
    "tokenizer_sha256",
    "write_gguf_lora",
]
