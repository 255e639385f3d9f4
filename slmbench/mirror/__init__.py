"""Mirrors: data sets and models as files with checksums, pulled where there is a network and carried to where is none.

`<mirror>/<data set>/<split>.jsonl`, with the hub's names of splits and columns, and `<mirror>/models/<owner>--<name>/`,
plain files as the hub has them; `checksums.json` beside them.
"""

from slmbench.mirror._models import HubModel, hub_model, pull_model, verify_models
from slmbench.mirror._rows import MirrorReport, pull, pull_datasets, verify

__all__ = [
    "HubModel",
    "MirrorReport",
    "hub_model",
    "pull",
    "pull_datasets",
    "pull_model",
    "verify",
    "verify_models",
]
