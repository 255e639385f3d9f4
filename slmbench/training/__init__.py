"""Recipes into adapters."""

from slmbench.runs import read_training
from slmbench.training._parity import check_parity
from slmbench.training._prepare import Preparation, prepare_training
from slmbench.training._timing import seconds_per_token
from slmbench.training._train import train_adapter

__all__ = ["Preparation", "check_parity", "prepare_training", "read_training", "seconds_per_token", "train_adapter"]
