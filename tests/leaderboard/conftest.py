"""Writes runs as an evaluation would, with scores that a test chooses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

WriteRun = Callable[..., Path]


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """write_run(run_id, scores, ...) -> the run's folder under tmp_path/runs; see `make_run`."""

    def write(run_id: str, scores: Mapping[str, Sequence[float]] | Sequence[float], **options: Any) -> Path:
        return make_run(options.pop("out", tmp_path), run_id, scores, **options)

    return write


def make_run(
    out: Path,
    run_id: str,
    scores: Mapping[str, Sequence[float]] | Sequence[float],
    *,
    model: str = "nano",
    adapter: str | None = None,
    task: str = "nano_note",
    created: str = "2026-11-20T10:00:00+00:00",
    status: str = "ok",
    key: str = "key-a",
    limit: int | None = None,
    source: str = "generated",
    higher_is_better: bool = True,
    chance: float | None = None,
    clusters: Sequence[str | None] | None = None,
    samples: Sequence[Mapping[str, Any]] = (),
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """scores: one list (metric exact_match/strict) or metric -> list. samples: fields that override those of each line.
    changes: dotted field of run.json -> another value, set last."""
    by_metric = scores if isinstance(scores, Mapping) else {"exact_match/strict": scores}
    n = len(next(iter(by_metric.values())))
    folder = out / "runs" / run_id
    folder.mkdir(parents=True)
    lines = []
    for position in range(n):
        sample = {
            "item_id": f"item-{position:04}",
            "epoch": 0,
            "cluster_id": clusters[position] if clusters else None,
            "prompt": f"Note {position}: shuffled words\nBrief:",
            "prompt_sha256": "0" * 64,
            "target": f"answer {position}",
            "references": [f"answer {position}"],
            "output": f"output {position}",
            "choices": None,
            "loglikelihoods": None,
            "gold": None,
            "finish_reason": "stop",
            "tokens_in": 40,
            "tokens_out": 9,
            "latency_ms": 12.5,
            "scores": {name: values[position] for name, values in by_metric.items()},
        }
        sample.update(samples[position] if position < len(samples) else {})
        lines.append(json.dumps(sample) + "\n")
    content = "".join(lines).encode()
    (folder / "samples.jsonl").write_bytes(content)
    record: dict[str, Any] = {
        "schema": 1,
        "run_id": run_id,
        "status": status,
        "created": created,
        "ended": created,
        "seed": 0,
        "limit": limit,
        "model": {
            "name": model,
            "id": model,
            "revision": None,
            "weights_sha256": "a" * 64,
            "dtype": "float32",
            "parameters": 1_100_000,
        },
        "adapter": None,
        "tokenizer_sha256": "b" * 64,
        "chat_template_sha256": None,
        "format": "plain",
        "task": {"id": task, "version": 1, "digest": "c" * 64, "kind": "generate"},
        "dataset": {"id": f"data/{task}", "revision": None, "split": "test", "source": source, "n": n},
        "fewshot": {"n": 0, "split": None},
        "generation": {"max_tokens": 32},
        "scorer": {"id": "exact_match", "version": "1"},
        "hardware": {"cpu": "x86_64", "cores": 2},
        "engine": "hf",
        "batch_size": 16,
        "metrics": [
            {
                "name": name,
                "value": sum(values) / n,
                "se": 0.0,
                "ci_lo": 0.0,
                "ci_hi": 1.0,
                "method": "wilson",
                "n": n,
                "n_error": 0,
                "higher_is_better": higher_is_better,
                "chance": chance,
                "range": [0.0, 1.0] if all(0 <= value <= 1 for value in values) else None,
            }
            for name, values in by_metric.items()
        ],
        "cost": {
            "seconds": 5.0,
            "latency_p50_ms": 12.5,
            "latency_p90_ms": 2000,
            "ram_peak_B": 512_000_000,
            "tokens_in": 40 * n,
            "tokens_out": 9 * n,
        },
        "samples_sha256": hashlib.sha256(content).hexdigest(),
        "comparability_key": f"{task}-{key}",
    }
    if adapter is not None:
        record["adapter"] = {
            "name": adapter,
            "sha256": hashlib.sha256(repr(adapter).encode()).hexdigest(),
            "bytes": 1_130_000,
            "parameters": 280_000,
            "rank": 16,
            "recipe": adapter,
            "train_seed": 0,
            "train_s": 25.0,
            "tasks": [task],
        }
    for name, value in (changes or {}).items():
        *above, last = name.split(".")
        found: Any = record
        for part in above:
            found = found[int(part)] if isinstance(found, list) else found[part]
        found[int(last) if isinstance(found, list) else last] = value
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder
