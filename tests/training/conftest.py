from __future__ import annotations

import pytest

from slmbench.catalog import default_catalog
from slmbench.models import load_model, resolve_model


@pytest.fixture
def nano():
    """The embedded model, loaded anew: training patches it."""
    return load_model(resolve_model("nano", default_catalog()))
