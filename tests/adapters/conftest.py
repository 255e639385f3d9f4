from __future__ import annotations

import copy
import json

import pytest

from slmbench.catalog import default_catalog
from slmbench.models import load_model, resolve_model

QV = ["q_proj", "v_proj"]
SEVEN = [*QV, "k_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture(scope="session")
def nano():
    """The embedded model, shared: every test leaves it as it was."""
    return load_model(resolve_model("nano", default_catalog()))


@pytest.fixture(scope="session")
def make(nano, tmp_path_factory):
    """make(name, kind, seed=, base=, model=, tokenizer=, **settings) -> the folder of an adapter that changes much."""
    import peft
    import torch

    def write(name, kind="LoraConfig", *, seed=0, base="slmbench/nano", model=None, tokenizer=None, **settings):
        torch.manual_seed(seed)
        if kind == "LoraConfig":
            settings = {"r": 4, "target_modules": QV} | settings
        config = getattr(peft, kind)(task_type="CAUSAL_LM", **settings)
        tuned = peft.get_peft_model(copy.deepcopy(model or nano.model), config)
        with torch.no_grad():
            for parameter in tuned.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.05)
        folder = tmp_path_factory.mktemp("adapters") / name
        tuned.save_pretrained(folder)
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": base}))
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        return str(folder)

    return write
