"""The metrics' names and one line on each: what `list metrics` and the schemas read, without importing a scorer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

METRIC_SUMMARIES: Mapping[str, str] = MappingProxyType(
    {
        "accuracy": "The option with the highest log-likelihood is the right one (lm-eval's acc).",
        "accuracy_bytes": "The same, with log-likelihoods per UTF-8 byte of the option (lm-eval's acc_bytes).",
        "accuracy_norm": "The same, with log-likelihoods per character of the option (lm-eval's acc_norm).",
        "bertscore": "Similarity of meaning by BERTScore F1; SLMBENCH_BERTSCORE names the model.",
        "codes_f1": "Micro and macro F1 of lists of ICD codes, pooled over items.",
        "exact_match": "The whole text equals a reference, spacing aside.",
        "exact_match/decimal": "The final number equals the reference's, compared as decimals (5.0 = 5 = 05).",
        "exact_match/flexible": "The last number-like text equals the reference's (lm-eval's flexible-extract).",
        "exact_match/open": "The text equals a reference; case, punctuation, articles aside (lm-eval's nq_open).",
        "exact_match/strict": "The number after the first '#### ' equals the reference's (lm-eval's strict-match).",
        "macro_f1": "Mean over classes of the F1 of the likeliest option, pooled over items.",
        "pass@1": "Chance that one sample passes its tests, unbiased; pass@k of any k works by the same name.",
        "pass@10": "Chance that at least one of 10 samples passes its tests, unbiased.",
        "rouge": "ROUGE-1, -2, -L and -Lsum F-measures against the best reference.",
        "rouge/stemmed": "The same on Porter stems of the words.",
        "squad": "Exact match and word F1 by SQuAD's rules, against the best reference.",
    }
)

_PASS_AT_K = re.compile(r"pass@([1-9][0-9]{0,3})")


def k_of(name: str) -> int | None:
    """The k of a name like `pass@100`, from 1 to 9999; None for any other name."""
    found = _PASS_AT_K.fullmatch(name)
    return int(found[1]) if found else None
