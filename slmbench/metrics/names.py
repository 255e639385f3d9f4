"""The metrics' names and one line on each: what `list metrics` and the schemas read, without importing a scorer."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

METRIC_SUMMARIES: Mapping[str, str] = MappingProxyType(
    {
        "accuracy": "The option with the highest log-likelihood is the right one (lm-eval's acc).",
        "accuracy_norm": "The same, with log-likelihoods per character of the option (lm-eval's acc_norm).",
        "exact_match": "The whole text equals a reference, spacing aside.",
        "exact_match/decimal": "The final number equals the reference's, compared as decimals (5.0 = 5 = 05).",
        "exact_match/flexible": "The last number-like text equals the reference's (lm-eval's flexible-extract).",
        "exact_match/strict": "The number after the first '#### ' equals the reference's (lm-eval's strict-match).",
        "rouge": "ROUGE-1, -2, -L and -Lsum F-measures against the best reference.",
    }
)
