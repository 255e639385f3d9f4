"""The engine that computes what requests share once: a prefix tree of their tokens, each node computed once."""

from __future__ import annotations

from slmbench.engines.shared_prefix._engine import SharedPrefix
from slmbench.engines.shared_prefix._lm import shared_prefix_class

__all__ = ["SharedPrefix", "shared_prefix_class"]
