"""The few samples of a run that a reader sees first: some right, some wrong, down to the raw output."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from slmbench.errors import FileError
from slmbench.leaderboard._records import Run
from slmbench.runs import SAMPLES, read_sample

TEXTS = (
    "item_id",
    "cluster_id",
    "prompt",
    "target",
    "references",
    "output",
    "choices",
    "verdict_detail",
    "format_fault",
    "parts",
)
"""The fields of a sample that may hold words of a data set or a model: ids too, as of patients."""


def pick_samples(run: Run, most: int = 20) -> list[dict[str, Any]]:
    """Up to `most` sample records of run, in file order; [] where samples.jsonl has gone since the run was loaded.

    For 0/1 scores of the run's first metric: half right and half wrong where there are enough of both, always the first
    ones of the file. For other scores: spread evenly from the worst to the best. Nothing is chosen by hand or by
    chance. Without texts, if the run says so.
    """
    try:
        scores = [_first_score(sample, run) for sample in read_samples(run)]
        wanted = set(_positions(scores, most))
        picked = [sample for position, sample in enumerate(read_samples(run)) if position in wanted]
    except (OSError, FileError):
        return []
    return [without_texts(sample) for sample in picked] if run.no_texts else picked


# New in every process, so that nobody finds a short text or a patient's number by trying all of them.
_KEY = secrets.token_bytes(32)


def without_texts(sample: dict[str, Any]) -> dict[str, Any]:
    """A sample with a keyed digest of each text of a data set or a model in its place.

    Texts that are equal stay equal within a page; the key is thrown away with the process. What right is (`gold`) goes
    too: beside a task's declaration it would be a text.
    """
    hidden = {key: _digest(sample[key]) for key in TEXTS if key in sample}
    return sample | hidden | {"gold": None}


def _digest(value: Any) -> Any:
    if isinstance(value, list):
        return [_digest(part) for part in value]
    if isinstance(value, dict):
        return {str(_digest(str(key))): _digest(part) for key, part in value.items()}
    if not isinstance(value, str) or not value:
        return value
    made = hmac.new(_KEY, value.encode(errors="surrogatepass"), hashlib.sha256)
    return f"digest {made.hexdigest()[:32]}"


def read_samples(run: Run) -> Iterator[dict[str, Any]]:
    """The lines of a run's samples.jsonl. Raises OSError or FileError where it was changed since the run was loaded."""
    path = run.folder / SAMPLES
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            yield read_sample(line, path, number)


def is_binary(run: Run, metric: str) -> bool:
    """Whether every item's score is 0 or 1."""
    return all(score in (0.0, 1.0) for score in run.scores[metric].values())


def _first_score(sample: dict[str, Any], run: Run) -> float | None:
    return sample["scores"].get(run.metrics[0].name)


def _positions(scores: Sequence[float | None], most: int) -> list[int]:
    if len(scores) <= most:
        return list(range(len(scores)))
    wrong = [position for position, score in enumerate(scores) if score == 0]
    right = [position for position, score in enumerate(scores) if score == 1]
    if len(wrong) + len(right) == len(scores):
        from_wrong = max(min(len(wrong), most // 2), most - len(right))
        return wrong[:from_wrong] + right[: most - from_wrong]
    # An unscored sample (an error) is worth a look too: it sorts below the worst.
    order = sorted(range(len(scores)), key=lambda position: (scores[position] is not None, scores[position] or 0.0))
    return [order[round(step * (len(order) - 1) / (most - 1))] for step in range(most)] if most > 1 else order[:most]
