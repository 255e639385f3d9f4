"""The engine that computes what requests share once: a prefix tree of their tokens, each node computed once."""

from __future__ import annotations

from slmbench.engines.shared_prefix._model import shared_prefix_class

__all__ = ["shared_prefix_class"]
