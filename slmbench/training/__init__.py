"""Recipes into adapters."""

from slmbench.models import read_training
from slmbench.training._parity import check_parity
from slmbench.training._prepare import Preparation, prepare_training
from slmbench.training._train import train_adapter

__all__ = ["Preparation", "check_parity", "prepare_training", "read_training", "train_adapter"]
