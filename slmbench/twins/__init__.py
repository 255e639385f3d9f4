"""Twins: small random copies of models, with their wiring, tokenizer and chat template, built here and offline.

What comes out of a twin means nothing; that it comes out says that every step of the way works.
"""

from slmbench.twins._build import build_twin

__all__ = ["build_twin"]
