"""The page's second half: what every shown run was, and some of its samples down to the raw output."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from slmbench.leaderboard._records import ScoredRun
from slmbench.leaderboard._samples import is_binary, pick_samples
from slmbench.leaderboard.table import Leaderboard, LeaderboardRow
from slmbench.leaderboard.texts import duration, interval_text, number
from slmbench.runs import RECORD, SAMPLES
from slmbench.values import Estimate, JsonObject

SAMPLES_SHOWN = 20
# Longer texts are cut in the middle: a prompt's start has its shots, its end has the question.
HEAD_CHARS = 1500
TAIL_CHARS = 3000


def run_sections(
    leaderboard: Leaderboard, runs: Mapping[str, ScoredRun], anchors: Mapping[str, str], out: Path | None
) -> list[tuple[str, list[JsonObject]]]:
    """(a row's name, its runs). anchors: run id -> element id. out: the page's folder, for links."""
    sections = []
    for row in leaderboard.rows:
        ids = list(dict.fromkeys(one for cell in row.cells.values() for one in cell.run_ids))
        sections.append((row.name, [_run(row, runs[one], anchors[one], out) for one in ids if one in anchors]))
    return sections


def run_link(run: ScoredRun, name: str, out: Path | None) -> str | None:
    """The relative address of a file of run, seen from the page's folder; None if there is none (another drive).

    out: the page's folder; None: `leaderboard/` beside `runs/`, as `slmbench leaderboard` writes it.
    """
    if out is None:
        path = f"../runs/{run.folder.name}/{name}"
    else:
        try:
            path = os.path.relpath(run.folder.resolve() / name, out.resolve())
        except ValueError:
            return None
    # Quoted, `:` too, and never at the start of a scheme: a folder's name can't make this a `javascript:` address.
    return "./" + quote(path.replace(os.sep, "/"), safe="/", errors="replace")


def _run(row: LeaderboardRow, run: ScoredRun, anchor: str, out: Path | None) -> JsonObject:
    scores = [
        (key.partition("/")[2], number(cell.estimate.value), _interval(cell.estimate))
        for key, cell in row.cells.items()
        if run.run_id in cell.run_ids
    ]
    return {
        "task": run.task,
        "scores": scores,
        "anchor": anchor,
        "run_id": run.run_id,
        "record_link": run_link(run, RECORD, out),
        "facts": _facts(run),
        "n_samples": run.n_samples,
        "place": f"runs/{run.run_id}/{SAMPLES}",
        "samples_link": run_link(run, SAMPLES, out),
        "samples": [_sample(sample, run) for sample in pick_samples(run, SAMPLES_SHOWN)],
    }


def _interval(made: Estimate) -> str:
    return "" if made.method == "none" else f" ({interval_text(made.ci_low, made.ci_high)})"


def _facts(run: ScoredRun) -> list[tuple[str, str]]:
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


def _sample(sample: JsonObject, run: ScoredRun) -> JsonObject:
    output = str(sample.get("output") or "")
    glimpse = " ".join(output.split())
    scored = [(str(name), _plain(value) or "none") for name, value in sample["scores"].items()]
    told = {"ended by": "finish_reason", "verdict": "verdict", "why": "verdict_detail"}
    for term, key in {**told, "not in its format": "format_fault"}.items():
        if said := _plain(sample.get(key)):
            scored.append((term, said))
    if "adapter" in sample:
        scored.append(("answered by", sample["adapter"] or "the base"))
    return {
        "mark": _mark(sample, run),
        "item": _item(sample),
        "glimpse": glimpse if len(glimpse) <= 90 else glimpse[:89] + "\u2026",
        "prompt": _clipped(sample.get("prompt")),
        "output": _clipped(output),
        "choices": _choices(sample) if sample.get("choices") else [],
        "target": _clipped(sample.get("target")),
        "others": [_clipped(text) for text in sample.get("references") or [] if text != sample.get("target")][:5],
        "scored": scored,
    }


def _mark(sample: JsonObject, run: ScoredRun) -> tuple[str, str]:
    """What is said of a sample's score, and the class that it is said in."""
    metric = run.metrics[0]
    score = sample["scores"].get(metric.name)
    if score is None:
        return "no score", "mark none"
    if not is_binary(run, metric.name):
        return number(score), "mark"
    right = (score == 1) == metric.higher_is_better
    return ("\u2713 right", "mark right") if right else ("\u2717 wrong", "mark wrong")


def _item(sample: JsonObject) -> str:
    epoch = sample.get("epoch", 0)
    return f"{sample['item_id']}, sample {epoch + 1}" if epoch else str(sample["item_id"])


def _clipped(value: object) -> str:
    shown = "" if value is None else str(value)
    if len(shown) > HEAD_CHARS + TAIL_CHARS + 100:
        left_out = len(shown) - HEAD_CHARS - TAIL_CHARS
        note = f"\n[\u2026 {left_out} characters are left out here; {SAMPLES} has them \u2026]\n"
        shown = shown[:HEAD_CHARS] + note + shown[-TAIL_CHARS:]
    return shown


def _choices(sample: JsonObject) -> list[tuple[str, str]]:
    """The options with their summed log-likelihoods; the right one and the chosen one are named."""
    known = sample.get("loglikelihoods") or []
    items = []
    for position, choice in enumerate(sample["choices"]):
        notes = [f"{known[position]:.2f} nats"] if position < len(known) else []
        notes += ["right"] if position == sample.get("gold") else []
        notes += ["chosen"] if choice == sample.get("output") else []
        items.append((str(choice), ", ".join(notes)))
    return items
