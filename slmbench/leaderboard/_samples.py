"""The few samples of a run that a reader sees first: some right, some wrong, down to the raw output."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator, Sequence

from attrs import evolve

from slmbench.errors import FileError
from slmbench.foreign import plain_lines
from slmbench.leaderboard._records import ScoredRun
from slmbench.runs import SAMPLES, SampleRecord, read_sample
from slmbench.values import JsonObject

OPEN = frozenset(
    {
        "adapter",
        "compute_ms",
        "epoch",
        "finish_reason",
        "latency_ms",
        "loglikelihoods",
        "sample_scores",
        "scores",
        "target_bytes",
        "target_loglikelihood",
        "tokens_in",
        "tokens_out",
        "truncated",
        "verdict",
    }
)
"""The fields of a sample that are shown where texts are withheld: none can hold a word of a data set or a model."""
OPEN_OF_RECORD = frozenset(
    {
        "adapter",
        "batch_size",
        "comparability_key",
        "cost",
        "cot",
        "created",
        "dataset",
        "ended",
        "engine",
        "fewshot",
        "format",
        "generation_config",
        "hardware",
        "imported",
        "latency",
        "limit",
        "metrics",
        "model",
        "no_texts",
        "remarks",
        "rescored_of",
        "run_id",
        "sandbox",
        "seed",
        "stopped",
        "status",
        "task",
    }
)
"""The fields of a run's record that pages may show then. What a plugin's remarks say is of kinds, not of items."""


def pick_samples(run: ScoredRun, most: int = 20) -> list[JsonObject]:
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


def withheld(run: ScoredRun) -> ScoredRun:
    """The run as pages without texts have it: of its record the OPEN_OF_RECORD alone."""
    kept = {key: value for key, value in run.record.items() if key in OPEN_OF_RECORD}
    return evolve(run, record=kept | {"no_texts": True})


# New in every process, so that nobody finds a short text or a patient's number by trying all of them.
_KEY = secrets.token_bytes(32)


def without_texts(sample: JsonObject) -> JsonObject:
    """A sample's OPEN fields, and of every other one a keyed digest of each text in it.

    Texts that are equal stay equal within a page; the key is thrown away with the process. Numbers go: which choice is
    right (`gold`), beside a task's declaration, is a text. What no field of a sample is called goes too.
    """
    known = sample.keys() & SampleRecord.model_fields.keys()
    return {key: sample[key] if key in OPEN else _digest(sample[key]) for key in sample if key in known}


def _digest(value: object) -> object:
    if isinstance(value, list):
        return [_digest(part) for part in value]
    if isinstance(value, dict):
        return {str(_digest(str(key))): _digest(part) for key, part in value.items()}
    if not isinstance(value, str):
        return None
    if not value:
        return value
    made = hmac.new(_KEY, value.encode(errors="surrogatepass"), hashlib.sha256)
    return f"digest {made.hexdigest()[:32]}"


def read_samples(run: ScoredRun) -> Iterator[JsonObject]:
    """The lines of a run's samples.jsonl. Raises OSError or FileError if it was changed since the run was loaded."""
    path = run.folder / SAMPLES
    for number, line in enumerate(plain_lines(path), 1):
        yield read_sample(line, path, number)


def is_binary(run: ScoredRun, metric: str) -> bool:
    """Whether every item's score is 0 or 1."""
    return all(score in (0.0, 1.0) for score in run.scores[metric].values())


def _first_score(sample: JsonObject, run: ScoredRun) -> float | None:
    score: float | None = sample["scores"].get(run.metrics[0].name)
    return score


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
