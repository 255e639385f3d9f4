"""LoRA adapters merged by what they change of a weight, never by their factors."""

from slmbench.merging.lora._core import Truncation, core_of, truncate
from slmbench.merging.lora._factors import Factors, LoraUpdate, stacked, weight_change
from slmbench.merging.lora._merge import MergedAdapter, merge_adapters
from slmbench.merging.lora._read import read_lora
from slmbench.merging.lora._together import check_fit, check_together, trained_alike
from slmbench.merging.lora._write import write_lora

__all__ = [
    "Factors",
    "LoraUpdate",
    "MergedAdapter",
    "Truncation",
    "check_fit",
    "check_together",
    "core_of",
    "merge_adapters",
    "read_lora",
    "stacked",
    "trained_alike",
    "truncate",
    "weight_change",
    "write_lora",
]
