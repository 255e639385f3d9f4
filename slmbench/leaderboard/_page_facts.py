"""What a page says of one run beside its scores: what it was made of, and where its files are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from slmbench.leaderboard._records import ScoredRun
from slmbench.leaderboard.texts import duration
from slmbench.values import JsonObject


def run_link(run: ScoredRun, name: str, out: Path | None) -> str | None:
    """The relative address of a file of run, seen from the page's folder; None if there is none (another drive).

    out: the page's folder; None: `leaderboard/` beside `runs/`, as `slmbench leaderboard` writes it.
    """
    if out is None:
        path = f"../runs/{run.folder.name}/{name}"
    else:
        try:
            path = os.path.join(_way(out, run.folder.parent), run.folder.name, name)
        except ValueError:
            return None
    # Quoted, `:` too, and never at the start of a scheme: a folder's name can't make this a `javascript:` address.
    return "./" + quote(path.replace(os.sep, "/"), safe="/", errors="replace")


@lru_cache(maxsize=64)
def _way(out: Path, runs: Path) -> str:
    """From a page's folder to one of run folders. Raises ValueError if there is none."""
    return os.path.relpath(runs.resolve(), out.resolve())


def run_facts(run: ScoredRun) -> list[tuple[str, str]]:
    """The run's record in short, as terms and what is said of them."""
    record = run.record
    dataset = record["dataset"]
    adapter = record.get("adapter") or {}
    cost = record["cost"]
    latencies = [_plain(cost.get(f"latency_{which}_ms")) for which in ("p50", "p90")]
    speed = cost.get("tokens_per_s")
    engine, batch = _plain(record.get("engine")), _plain(record.get("batch_size"))
    hardware = record.get("hardware") or {}
    told: list[tuple[str, str | None]] = [
        ("ended", _plain(record.get("ended"))),
        ("data", _joined(dataset, "id", "split", "source")),
        ("revision", _plain(dataset.get("revision"))),
        ("format", _plain(record.get("format"))),
        ("shots", _plain((record.get("fewshot") or {}).get("n"))),
        ("chain of thought", _plain(record.get("cot")) if record.get("cot") not in (None, "off") else None),
        ("sandbox", _joined(record.get("sandbox") or {}, "tier", "examine")),
        ("to note", "; ".join(f"{name}: {count}" for name, count in record.get("remarks", {}).items())),
        ("task version", _plain(record["task"].get("version"))),
        ("seed", _plain(record.get("seed"))),
        ("weights", _short(record["model"].get("weights_sha256"))),
        ("quantization", run.quantization),
        ("adapter", _short(adapter.get("sha256"))),
        ("trained by", run.method),
        ("recipe", _plain(adapter.get("recipe"))),
        ("training seed", _plain(adapter.get("train_seed"))),
        ("dtype", _plain(record["model"].get("dtype"))),
        ("engine", f"{engine}, batch {batch}" if engine and batch else engine),
        ("the model's file says", _own_settings(record.get("generation_config"))),
        ("hardware", _joined(hardware, *hardware)),
        ("took", None if cost.get("seconds") is None else duration(cost["seconds"])),
        ("tokens per second", None if speed is None else f"{speed:,.0f}"),
        ("latency, alone", f"p50 {latencies[0]} ms, p90 {latencies[1]} ms" if all(latencies) else None),
        ("comparability key", _short(run.comparability_key)),
    ]
    return [(term, value) for term, value in told if value]


def _own_settings(found: JsonObject | None) -> str | None:
    """What a model's `generation_config.json` says of the next token, and whether it counted."""
    if found is None:
        return None
    said = ", ".join(f"{name} {_plain(value) or value}" for name, value in found.items() if name != "counts")
    return said if found.get("counts") else f"{said}; not applied"


def _plain(value: object) -> str | None:
    if value is None or isinstance(value, (dict, list)):
        return None
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _short(value: object) -> str | None:
    shown = _plain(value)
    return shown if shown is None or len(shown) <= 14 else f"{shown.removeprefix('sha256:')[:12]}\u2026"


def _joined(values: Mapping[str, object], *names: str) -> str | None:
    shown = [part for part in (_plain(values.get(name)) for name in names) if part]
    return ", ".join(shown) or None
