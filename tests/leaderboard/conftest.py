"""Writes runs as an evaluation would, by the one writer of runs, with scores that a test chooses."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from slmbench.runs import (
    AdapterPart,
    CostPart,
    DatasetPart,
    MetricPart,
    ModelPart,
    OpenRun,
    RunIdentity,
    SampleRecord,
    ScorerPart,
    ShotsPart,
    TaskPart,
)
from slmbench.seal import sealed
from slmbench.statistics.estimate import estimate

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
    """scores: one list (metric exact_match/strict) or metric -> list.

    What is written is sound; then, as somebody may who digests the files anew: samples: fields that override those of
    each line; changes: dotted field of run.json -> another value.
    """
    by_metric = scores if isinstance(scores, Mapping) else {"exact_match/strict": scores}
    n = len(next(iter(by_metric.values())))
    labels = clusters or [None] * n
    tuned = None
    if adapter is not None:
        tuned = AdapterPart(
            name=adapter,
            sha256=hashlib.sha256(repr(adapter).encode()).hexdigest(),
            bytes=1_130_000,
            parameters=280_000,
            rank=16,
            recipe=adapter,
            train_seed=0,
            train_s=25.0,
            tasks=[task],
        )
    identity = RunIdentity(
        seed=0,
        limit=limit,
        model=ModelPart(
            name=model, id=model, revision=None, weights_sha256="a" * 64, dtype="float32", parameters=1_100_000
        ),
        adapter=tuned,
        tokenizer_sha256="b" * 64,
        chat_template_sha256=None,
        format="plain",
        task=TaskPart(id=task, version=1, digest="c" * 64, kind="generate"),
        dataset=DatasetPart(id=f"data/{task}", revision=None, split="test", source=source, n=n),
        fewshot=ShotsPart(n=0, split=None),
        generation={"max_tokens": 32},
        scorer=ScorerPart(id="exact_match", version="1"),
        engine="hf",
        batch_size=16,
    )
    folder = out / "runs" / run_id
    folder.mkdir(parents=True)
    facts = {"run_id": run_id, "comparability_key": f"{task}-{key}", "hardware": {"cpu": "x86_64", "cores": 2}}
    run = OpenRun(str(folder), {**facts, **identity.as_json()})
    metrics = []
    for name, values in by_metric.items():
        span = (0.0, 1.0) if all(0 <= value <= 1 for value in values) else None
        found = estimate([float(value) for value in values], labels, span)
        metric = MetricPart(
            name=name,
            value=found.value,
            se=found.stderr,
            ci_lo=found.ci_low,
            ci_hi=found.ci_high,
            method=found.method,
            n=n,
            n_error=0,
            higher_is_better=higher_is_better,
            chance=chance,
            range=span and list(span),
        )
        metrics.append(metric.model_dump(exclude_unset=True))
    lines = [
        SampleRecord(
            item_id=f"item-{position:04}",
            epoch=0,
            cluster_id=labels[position],
            prompt=f"Note {position}: shuffled words\nBrief:",
            prompt_sha256=hashlib.sha256(f"Note {position}: shuffled words\nBrief:".encode()).hexdigest(),
            target=f"answer {position}",
            references=[f"answer {position}"],
            output=f"output {position}",
            choices=None,
            loglikelihoods=None,
            gold=None,
            finish_reason="stop",
            tokens_in=40,
            tokens_out=9,
            latency_ms=12.5,
            scores={name: float(values[position]) for name, values in by_metric.items()},
        )
        for position in range(n)
    ]
    cost = CostPart(
        seconds=5.0,
        latency_p50_ms=12.5,
        latency_p90_ms=2000,
        ram_peak_B=512_000_000,
        tokens_in=40 * n,
        tokens_out=9 * n,
    )
    run.finish(lines, {"metrics": metrics, "cost": cost.model_dump(exclude_unset=True)})
    rewrite(folder, {"created": created, "ended": created, "status": status, **(changes or {})}, samples)
    return folder


def rewrite(folder: Path, changes: Mapping[str, Any], samples: Sequence[Mapping[str, Any]] = ()) -> None:
    """Changes a run's files and digests them anew. changes: dotted field -> value; samples: fields by line."""
    path = folder / "samples.jsonl"
    record = json.loads((folder / "run.json").read_text())
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for sample, fields in zip(lines, samples, strict=False):
        sample.update(fields)
    data = "".join(json.dumps(sample) + "\n" for sample in lines).encode()
    if data != path.read_bytes():  # As a version wrote it that knew of no item scores.
        record.pop("item_scores_sha256", None)
        (folder / "item_scores.parquet").unlink(missing_ok=True)
    path.write_bytes(data)
    record["samples_sha256"] = hashlib.sha256(data).hexdigest()
    for name, value in changes.items():
        *above, last = name.split(".")
        found: Any = record
        for part in above:
            found = found[int(part)] if isinstance(found, list) else found[part]
        found[int(last) if isinstance(found, list) else last] = value
    (folder / "run.json").write_text(json.dumps(sealed(record)), encoding="utf-8")


def read_page(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what index.html knows at once, the name of each data file beside it -> its value)."""
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', (folder / "index.html").read_text(), re.DOTALL
    )
    assert found is not None
    files = {}
    for path in sorted((folder / "data").glob("*")):
        call = re.fullmatch(r'slmbenchData\("([a-z]+-[0-9a-f]{16})",(.*)\);\n', path.read_text("ascii"))
        assert call is not None and f"{call[1]}.js" == path.name
        files[call[1]] = json.loads(call[2])
    return json.loads(found[1]), files
