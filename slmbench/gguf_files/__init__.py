"""GGUF files as they are written: names and order of tensors, an adapter, a model, its tokenizer and its packing."""

from slmbench.gguf_files._agreement import otherwise_cut, piece_ids
from slmbench.gguf_files._cuts import CUTS, HARD_TEXTS, Cuts, known_cuts, with_cuts
from slmbench.gguf_files._kinds import KINDS, Kind, read_kinds
from slmbench.gguf_files._layouts import ARCHITECTURES, GgufLayout, class_of, layout_of
from slmbench.gguf_files._lora import LoraPair, write_lora
from slmbench.gguf_files._model import About, check_writable, write_gguf_model
from slmbench.gguf_files._quantise import quantise, quantiser
from slmbench.gguf_files._settings import llama3_factors, setting_notices
from slmbench.gguf_files._vocabulary import GgufVocabulary, vocabulary_of

__all__ = [
    "ARCHITECTURES",
    "CUTS",
    "HARD_TEXTS",
    "KINDS",
    "About",
    "Cuts",
    "GgufLayout",
    "GgufVocabulary",
    "Kind",
    "LoraPair",
    "check_writable",
    "class_of",
    "known_cuts",
    "layout_of",
    "llama3_factors",
    "otherwise_cut",
    "piece_ids",
    "quantise",
    "quantiser",
    "read_kinds",
    "setting_notices",
    "vocabulary_of",
    "with_cuts",
    "write_gguf_model",
    "write_lora",
]
