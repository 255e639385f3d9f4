"""Evaluation through lm-eval: the one package that imports it."""

from slmbench.evaluation._encoding import Encoded
from slmbench.evaluation._evaluate import evaluate_tasks
from slmbench.evaluation._judge import refuse_unscorable
from slmbench.evaluation._options import EvaluationOptions
from slmbench.evaluation._parity import SentRequest, sent_requests
from slmbench.evaluation._routed import AdapterChoice, Routed
from slmbench.evaluation._trained_format import choose_format, format_remarks, format_trained_in
from slmbench.evaluation.shared_prefix import register

__all__ = [
    "AdapterChoice",
    "Encoded",
    "EvaluationOptions",
    "Routed",
    "SentRequest",
    "choose_format",
    "evaluate_tasks",
    "format_remarks",
    "format_trained_in",
    "refuse_unscorable",
    "sent_requests",
]

register()
