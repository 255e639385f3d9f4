from __future__ import annotations

import os
import shutil

import pytest

from slmbench.catalog import default_catalog
from slmbench.models import load_model, resolve_model
from slmbench.paths import package_dir


@pytest.fixture
def nano():
    """The embedded model, loaded anew: training patches it."""
    return load_model(resolve_model("nano", default_catalog()))


@pytest.fixture(scope="session")
def small_t5(tmp_path_factory):
    """The folder of an encoder-decoder of random numbers, with the embedded model's tokenizer."""
    import torch
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("models") / "small-t5"
    tokenizer = AutoTokenizer.from_pretrained(os.path.join(package_dir(), "nano", "model"), local_files_only=True)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


QUICK = ("adapters.note.steps=4", "adapters.choice.steps=4", "adapters.multi.steps=4", "optim.batch=4", "rows=40")


def _train(out, name, *overrides, **options):
    from slmbench.recipe import load_recipe
    from slmbench.training import train_adapter

    catalog = default_catalog()
    recipe = load_recipe("nano-quickstart", catalog, (*QUICK, *overrides))
    source = resolve_model(recipe.spec.model, catalog)
    return train_adapter(recipe, name, catalog, source, out=str(out), **options)


@pytest.fixture
def train():
    """train(out, adapter, *overrides, **options) -> the folder; of the quickstart's recipe, with `quick` overrides."""

    def make(out, name, *overrides, **options):
        return _train(out, name, *overrides, **options)

    make.quick = QUICK
    return make


@pytest.fixture(scope="session")
def _trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    _train(out, "note")
    return out


@pytest.fixture
def note(_trained, tmp_path):
    """The folder of what `train(tmp_path, "note")` makes, a copy of one training for all tests."""
    shutil.copytree(_trained, tmp_path, dirs_exist_ok=True)
    return tmp_path / "adapters" / "note"
