from __future__ import annotations

from functools import cache

import pytest

from slmbench.catalog import default_catalog
from slmbench.models import load_tokenizer, resolve_model
from slmbench.schema import ModelSpec, parse
from slmbench.yamlfile import read_yaml


def _spec_of(name, **changes):
    spec = parse(ModelSpec, read_yaml(default_catalog().find("models", name)))
    if "twin" in changes:
        changes["twin"] = spec.twin.model_copy(update=changes["twin"])
    return spec.model_copy(update=changes)


@cache
def _tokenizer(name):
    return load_tokenizer(resolve_model(name, default_catalog(), twin=True))


@pytest.fixture(scope="session")
def tokenizer():
    """tokenizer(name) -> that of a model's twin, shared by all tests."""
    return _tokenizer


@pytest.fixture(scope="session")
def spec_of():
    """spec_of(name, **changes) -> a bundled declaration, changed; a dict under `twin` changes the twin's sizes."""
    return _spec_of


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache for one test; its folder of twins."""
    monkeypatch.setenv("SLMBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "twins"
