"""Runs of other tools in, and ours out to their layouts: lm-eval's result folders, every_eval_ever's records."""

from slmbench.exchange._every_eval_ever import RELATIONSHIPS, export_every_eval_ever
from slmbench.exchange._imported import Imported, import_lm_eval
from slmbench.exchange._lm_eval import LmEvalTask, read_lm_eval
from slmbench.exchange._to_lm_eval import export_lm_eval

__all__ = [
    "RELATIONSHIPS",
    "Imported",
    "LmEvalTask",
    "export_every_eval_ever",
    "export_lm_eval",
    "import_lm_eval",
    "read_lm_eval",
]
