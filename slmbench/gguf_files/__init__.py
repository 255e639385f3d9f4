"""GGUF files as they are written: names and order of tensors, an adapter, a model, its tokenizer and its packing."""

from slmbench.gguf_files._layouts import ARCHITECTURES, GgufLayout, class_of, layout_of
from slmbench.gguf_files._lora import LoraPair, write_lora

__all__ = ["ARCHITECTURES", "GgufLayout", "LoraPair", "class_of", "layout_of", "write_lora"]
