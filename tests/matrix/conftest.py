"""An adapter on nano that was never trained: what a matrix reads of one is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def adapter(nano: Any, tmp_path: Path) -> Path:
    from peft import LoraConfig, get_peft_model

    folder = tmp_path / "adapters" / "note"
    get_peft_model(nano.model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "nano"}))
    return folder
