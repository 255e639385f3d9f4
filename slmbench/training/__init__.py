"""Recipes into adapters."""

from slmbench.runs import read_training
from slmbench.training._answer_losses import answer_losses
from slmbench.training._folders import checkpoint_pattern
from slmbench.training._held_out import HeldOutRows, held_out_rows, without_evaluated
from slmbench.training._parity import check_parity
from slmbench.training._prepare import Preparation, prepare_training
from slmbench.training._rows import TrainingRow, refuse_small_splits
from slmbench.training._timing import seconds_per_token
from slmbench.training._trackers import TRACKERS, require_trackers
from slmbench.training._train import train_adapter

__all__ = [
    "TRACKERS",
    "HeldOutRows",
    "Preparation",
    "TrainingRow",
    "answer_losses",
    "check_parity",
    "checkpoint_pattern",
    "held_out_rows",
    "prepare_training",
    "read_training",
    "refuse_small_splits",
    "require_trackers",
    "seconds_per_token",
    "train_adapter",
    "without_evaluated",
]
