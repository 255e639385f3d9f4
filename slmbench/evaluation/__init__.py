"""Evaluation through lm-eval: the one package that imports it."""

from slmbench.evaluation._encoding import Encoded
from slmbench.evaluation._evaluate import evaluate_tasks, try_tasks
from slmbench.evaluation._failed import TaskFailure, TasksFailed, made_and_failed, settled, told_if_cut_short
from slmbench.evaluation._identity import items_sha256
from slmbench.evaluation._judge import refuse_unscorable
from slmbench.evaluation._options import EvaluationOptions, require_engine
from slmbench.evaluation._parity import SentRequest, sent_requests
from slmbench.evaluation._race import Opponent, drawn
from slmbench.evaluation._rescore import SavedAnswers, needs_rows, rescore, rows_answered, saved_answers
from slmbench.evaluation._routed import AdapterChoice, Routed
from slmbench.evaluation._trained_format import choose_format, format_remarks, format_trained_in
from slmbench.evaluation.shared_prefix import register

__all__ = [
    "AdapterChoice",
    "Encoded",
    "EvaluationOptions",
    "Opponent",
    "Routed",
    "SavedAnswers",
    "SentRequest",
    "TaskFailure",
    "TasksFailed",
    "choose_format",
    "drawn",
    "evaluate_tasks",
    "format_remarks",
    "format_trained_in",
    "items_sha256",
    "made_and_failed",
    "needs_rows",
    "refuse_unscorable",
    "require_engine",
    "rescore",
    "rows_answered",
    "saved_answers",
    "sent_requests",
    "settled",
    "told_if_cut_short",
    "try_tasks",
]

register()
