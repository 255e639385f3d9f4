"""llama.cpp in this process: its library behind one door, what is scored and written with it, and what it can run."""

from slmbench.engines.llamacpp_parts._engine import LlamaCpp
from slmbench.engines.llamacpp_parts._library import Sequences, Weights, build_of
from slmbench.engines.llamacpp_parts._probe import repacks

__all__ = ["LlamaCpp", "Sequences", "Weights", "build_of", "repacks"]
