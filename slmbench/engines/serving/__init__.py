"""Answers of a server that is running: Ollama, or any that has OpenAI's completions. Nothing else is asked."""

from slmbench.engines.serving._batches import ServerBatches
from slmbench.engines.serving._client import ServerFailure
from slmbench.engines.serving._meeting import UNVERIFIED, meet

__all__ = ["UNVERIFIED", "ServerBatches", "ServerFailure", "meet"]
