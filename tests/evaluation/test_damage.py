"""Journals that were damaged between two starts: what is lost is said and asked again, and never becomes a score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.journal import Journal
from slmbench.task import load_task
from tests.nearly import check_scores, values_of


def cut_off(nano: Any, task: Any, out: Path, monkeypatch: pytest.MonkeyPatch, n: int, limit: int) -> list[bytes]:
    """The lines of a run's journal that was interrupted at its answer number n + 1."""
    append, written = Journal.append, []

    def appended(self: Journal, key: str, record: dict[str, Any]) -> None:
        if len(written) == n:
            raise KeyboardInterrupt
        written.append(key)
        append(self, key, record)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Journal, "append", appended)
        evaluate_tasks(nano, [task], EvaluationOptions(out=str(out), limit=limit, batch=2))
    (path,) = out.glob("runs/*/responses.jsonl")
    return path.read_bytes().splitlines(keepends=True)


def with_value(line: bytes, **changes: Any) -> bytes:
    """The line as a version without checksums would have written it, some fields changed; ... takes one away."""
    entry = json.loads(line)
    value = entry["value"] | changes
    entry = {"key": entry["key"], "value": {key: one for key, one in value.items() if one is not ...}}
    return json.dumps(entry).encode() + b"\n"


DAMAGE = {
    "nano_choice": [
        lambda line: with_value(line, latency_ms=...),
        lambda line: with_value(line, loglikelihood="-1.5"),
        lambda line: with_value(line, loglikelihood=None),
        lambda line: with_value(line, loglikelihood=float("nan")),
        lambda line: with_value(line, loglikelihood=12.5),
        lambda line: with_value(line, loglikelihood=-7).replace(b"-7", b"-1e999"),
        lambda line: with_value(line, greedy=1),
        lambda line: with_value(line, tokens_in=-1),
        lambda line: with_value(line, tokens_out=1.5),
        lambda line: with_value(line, truncated=None),
        lambda line: with_value(line, share_ms=[]),
        lambda line: with_value(line, loglikelihood=..., text="A", finish_reason="eos"),
        lambda line: line.replace(b'"loglikelihood": -', b'"loglikelihood": -9'),  # Its checksum says so.
        lambda line: b'{"key": "' + json.loads(line)["key"].encode() + b'", "value": null}\n',
        lambda line: line[:40] + b"\n",
        lambda line: b"not JSON at all\n",
        lambda line: b"[" * 100_000 + b"\n",
        lambda line: b"\xff\xfe" + line,
        lambda line: line[: len(line) // 2],  # The last one, which a kill cut off.
    ],
    "nano_arithmetic": [
        lambda line: with_value(line, text=None),
        lambda line: with_value(line, text=["1"]),
        lambda line: with_value(line, text=..., loglikelihood=-1.0, greedy=True),
        lambda line: with_value(line, finish_reason="because"),
        lambda line: with_value(line, finish_reason=...),
        lambda line: with_value(line, latency_ms=1).replace(b'"latency_ms": 1', b'"latency_ms": 1e999'),
        lambda line: line.replace(b'"text": "', b'"text": "9'),
        lambda line: line.rstrip()[:-1] + b"\n",
    ],
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_line_is_said_and_computed_again_and_the_samples_are_an_undamaged_runs(
    name: str, nano: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task, damage = load_task(name), DAMAGE[name]
    n = len(damage) + 3
    limit = -(-n // 4) + 1 if name == "nano_choice" else n + 1
    (whole,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path / "whole"), limit=limit, batch=2))
    lines = cut_off(nano, task, tmp_path / "cut", monkeypatch, n, limit)
    assert len(lines) == n
    (path,) = (tmp_path / "cut").glob("runs/*/responses.jsonl")
    path.write_bytes(b"".join(lines[:3] + [harm(line) for harm, line in zip(damage, lines[3:], strict=True)]))
    capsys.readouterr()
    (run,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path / "cut"), limit=limit, batch=2))
    assert run.record["cost"]["n_resumed"] == 3
    said = capsys.readouterr().err
    assert "responses.jsonl: line 4: field value." in said
    assert f"and {len(damage) - 3} more lines; what stood there is computed again" in said
    times = {"latency_ms", "compute_ms", "loglikelihoods", "scores"}
    for row, other in zip(run.samples(), whole.samples(), strict=True):
        assert {key: row[key] for key in row.keys() - times} == {key: other[key] for key in other.keys() - times}
        assert row["loglikelihoods"] == (other["loglikelihoods"] and pytest.approx(other["loglikelihoods"], abs=1e-4))
        check_scores(row["scores"], other["scores"])
    check_scores(values_of(run), values_of(whole))
