"""Which adapter a call is for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoRARequest:
    """As vLLM's: a name and a number that no other adapter has, and a folder."""

    lora_name: str
    lora_int_id: int
    lora_path: str
