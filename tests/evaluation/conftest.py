from __future__ import annotations

import importlib.util
import os
import string
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.models import LoadedModel, ModelSource, bind_model, load_model, resolve_model

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def benchmark_module(name):
    """A module of benchmarks/, which is no package: tests and benchmarks ask the same oracles."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def stories_folder():
    folder = os.environ.get("SLMBENCH_STORIES260K")
    if not folder:
        pytest.skip("SLMBENCH_STORIES260K names no folder with stories260K.bin")
    return Path(folder)


@pytest.fixture(scope="session")
def stories(stories_folder):
    """The real 260K-parameter model, in memory."""
    model, tokenizer = benchmark_module("stories260k").load(stories_folder)
    return bind_model(ModelSource("stories260K", "karpathy/tinyllamas", "memory"), model, tokenizer)


@pytest.fixture(scope="session")
def lm_eval_own():
    return benchmark_module("lm_eval_own")


@pytest.fixture
def nano():
    """The embedded model, loaded anew: training patches it."""
    return load_model(resolve_model("nano", default_catalog()))


WORDS = ("the", "of", "and", "to", "in", "is", "Question", "Answer", "Note", "Summary", "red", "blue")


def _tiny_t5(*, context_tokens: int | None = 512, scale: float = 3.0) -> LoadedModel:
    """scale: of all weights; at 3, greedy texts differ from prompt to prompt."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration, T5TokenizerFast

    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocab += [(sign, -6.0) for sign in string.digits + string.ascii_letters + ".,:;?!'\"()+-*/=_#%$&|>\\"]
    vocab += [(f"▁{word}", -4.0) for word in (*WORDS, *string.ascii_lowercase, *string.digits)]
    tokenizer = T5TokenizerFast(vocab=vocab, extra_ids=0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return bind_model(ModelSource("tiny-t5", "tiny-t5", "memory", context_tokens=context_tokens), model, tokenizer)


@pytest.fixture(scope="session")
def tiny_t5():
    """tiny_t5(context_tokens=512, scale=3.0) -> a small random T5 with a tokenizer of T5's own class."""
    return _tiny_t5
