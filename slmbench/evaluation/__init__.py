"""Evaluation through lm-eval: the one package that imports it."""

from slmbench.evaluation._evaluate import evaluate_tasks
from slmbench.evaluation._parity import SentRequest, sent_requests

__all__ = ["SentRequest", "evaluate_tasks", "sent_requests"]
