"""Recipes into adapters."""

from slmbench.training._parity import check_parity
from slmbench.training._train import train_adapter

__all__ = ["check_parity", "train_adapter"]
