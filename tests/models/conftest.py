from __future__ import annotations

from functools import cache

import pytest

from slmbench.catalog import default_catalog
from slmbench.models import load_model, resolve_model


@cache
def _twin(name):
    return load_model(resolve_model(name, default_catalog(), twin=True))


@pytest.fixture(scope="session")
def twin():
    """twin(name) -> the loaded twin of a model, shared by all tests: put no adapter on it."""
    return _twin
