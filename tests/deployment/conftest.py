from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.models import load_model, load_tokenizer, resolve_model
from slmbench.schema import QuantizationSpec

FAMILIES = ("llama-3.2-1b-instruct", "phi-3.5-mini-instruct", "qwen2.5-0.5b", "smollm2-360m", "tinyllama-1.1b-chat")


@pytest.fixture(scope="session", autouse=True)
def _twins_apart(tmp_path_factory):
    """Twins of these tests go to a folder of their own, built once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLMBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def source_of() -> Callable:
    """source_of(name) -> nano, or the twin of another model."""
    return lambda name: resolve_model(name, default_catalog(), twin=name != "nano")


@pytest.fixture(scope="session")
def tokenizer_of(source_of) -> Callable:
    return lambda name: load_tokenizer(source_of(name))


@pytest.fixture
def make_adapter(tmp_path, source_of) -> Callable[..., str]:
    """make_adapter(model, lora settings..., tasks=, format=, quantization=) -> a folder as training leaves it.

    Its weights are random and large, so that what merging does to logits is seen.
    """

    def make(model="nano", *, name="tuned", tasks=("nano_arithmetic",), format="plain", quantization=None, dtype="auto",
             record=True, **lora):  # fmt: skip
        import peft
        import torch

        torch.manual_seed(0)
        source = source_of(model)
        loaded = load_model(source, dtype=dtype, quantization=quantization)
        settings = {"r": 4, "lora_alpha": 16, "target_modules": "all-linear", "init_lora_weights": False} | lora
        kind = "SEQ_2_SEQ_LM" if loaded.architecture == "seq2seq" else "CAUSAL_LM"
        tuned = peft.get_peft_model(loaded.model, peft.LoraConfig(task_type=kind, **settings))
        folder = tmp_path / "adapters" / name
        tuned.save_pretrained(folder)
        if record:
            training = {
                "recipe": "of-the-tests",
                "model": source.name,
                "base_weights_sha256": loaded.weights_sha256,
                "quantization": loaded.quantization,
                "dtype": loaded.dtype,
                "tasks": {task: {} for task in tasks},
                "settings": {
                    "method": "qlora" if quantization else "lora",
                    "quantization": quantization.model_dump() if quantization else None,
                    "format": format,
                    "max_tokens": 256,
                },
            }
            (folder / "training.json").write_text(json.dumps(training), encoding="utf-8")
        return str(folder)

    return make


@pytest.fixture(scope="session")
def nf4() -> QuantizationSpec:
    return QuantizationSpec()


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"
