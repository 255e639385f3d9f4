"""The page's second half: what every shown run was, and some of its samples down to the raw output."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from slmbench.leaderboard._html import Html, preformatted, tag
from slmbench.leaderboard._page_table import interval_text
from slmbench.leaderboard._records import Run
from slmbench.leaderboard._samples import is_binary, pick_samples
from slmbench.leaderboard._text import duration, number
from slmbench.leaderboard.table import Leaderboard, Row
from slmbench.runs import RECORD, SAMPLES
from slmbench.values import Estimate
from slmbench.visible import visible

SAMPLES_SHOWN = 20
# Longer texts are cut in the middle: a prompt's start has its shots, its end has the question.
HEAD_CHARS = 1500
TAIL_CHARS = 3000


def run_sections(
    leaderboard: Leaderboard, runs: Mapping[str, Run], anchors: Mapping[str, str], out: Path | None
) -> Html:
    """One section a row with one foldable part a run. anchors: run id -> element id. out: the page's folder, for
    links."""
    sections = []
    for row in leaderboard.rows:
        ids = list(dict.fromkeys(cell.run_id for cell in row.cells.values()))
        parts = [_run(row, runs[run_id], anchors[run_id], out) for run_id in ids if run_id in anchors]
        sections.append(tag("section", tag("h3", row.name), *parts, class_="row"))
    return Html("".join(sections))


def run_link(run: Run, name: str, out: Path | None) -> str | None:
    """The relative address of a file of run, seen from the page's folder; None where there is none (another drive).

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


def _run(row: Row, run: Run, anchor: str, out: Path | None) -> Html:
    samples = pick_samples(run, SAMPLES_SHOWN)
    scores = [
        tag(
            "span",
            column_metric,
            " ",
            tag("b", number(cell.estimate.value)),
            _interval(cell.estimate),
            class_="metric",
        )
        for key, cell in row.cells.items()
        if cell.run_id == run.run_id
        for column_metric in [key.removeprefix(f"{run.task}/")]
    ]
    summary = tag("summary", tag("span", run.task, class_="task"), *scores)
    link = run_link(run, SAMPLES, out)
    place = f"runs/{run.run_id}/{SAMPLES}"
    everything = tag("a", place, href=link) if link else tag("code", place)
    shown = tag("p", f"{len(samples)} of {run.n_samples} samples shown; all in ", everything, ".", class_="shown")
    body = tag(
        "div",
        _facts(run, out),
        shown,
        *(_sample(sample, run) for sample in samples),
        tag("p", tag("a", "Back to the table", href="#scores"), class_="back"),
        id=anchor,
        class_="body",
    )
    return tag("details", summary, body, class_="run")


def _interval(made: Estimate) -> str:
    return "" if made.method == "none" else f" ({interval_text(made.ci_low, made.ci_high)})"


def _facts(run: Run, out: Path | None) -> Html:
    """The run's record in short, as a list of terms."""
    record = run.record
    dataset = record["dataset"]
    adapter = record.get("adapter") or {}
    link = run_link(run, RECORD, out)
    cost = record.get("cost", {})
    latencies = [_plain(cost.get(f"latency_{which}_ms")) for which in ("p50", "p90")]
    speed = cost.get("tokens_per_s")
    engine, batch = _plain(record.get("engine")), _plain(record.get("batch_size"))
    hardware = record.get("hardware")
    told: list[tuple[str, str | Html | None]] = [
        ("run", tag("a", run.run_id, href=link) if link else run.run_id),
        ("ended", _plain(record.get("ended"))),
        ("data", _joined(dataset, "id", "split", "source")),
        ("revision", _plain(dataset.get("revision"))),
        ("format", _plain(record.get("format"))),
        ("shots", _plain((record.get("fewshot") or {}).get("n")) if isinstance(record.get("fewshot"), dict) else None),
        ("chain of thought", _plain(record.get("cot")) if record.get("cot") not in (None, "off") else None),
        ("sandbox", _joined(record.get("sandbox") or {}, "tier", "examine")),
        ("to mind", _joined_counts(record.get("remarks"))),
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
        ("hardware", _joined(hardware, *hardware) if isinstance(hardware, dict) else _plain(hardware)),
        ("took", duration(cost["seconds"]) if isinstance(cost.get("seconds"), (int, float)) else None),
        ("tokens a second", f"{speed:,.0f}" if isinstance(speed, (int, float)) else None),
        ("latency, alone", f"p50 {latencies[0]} ms, p90 {latencies[1]} ms" if all(latencies) else None),
        ("comparability key", _short(run.comparability_key)),
    ]
    pairs = [tag("div", tag("dt", term), tag("dd", value)) for term, value in told if value]
    return tag("dl", *pairs, class_="facts")


def _joined_counts(remarks: Any) -> str | None:
    counts = remarks.items() if isinstance(remarks, Mapping) else ()
    return "; ".join(f"{name}: {count}" for name, count in counts) or None


def _own_settings(found: Any) -> str | None:
    """What a model's `generation_config.json` says of the next token, and whether it counted."""
    if not isinstance(found, Mapping):
        return None
    said = ", ".join(f"{name} {_plain(value) or value}" for name, value in found.items() if name != "counts")
    return said if found.get("counts") else f"{said}; not applied"


def _plain(value: Any) -> str | None:
    if value is None or isinstance(value, (dict, list)):
        return None
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _short(value: Any) -> str | None:
    shown = _plain(value)
    return shown if shown is None or len(shown) <= 14 else f"{shown.removeprefix('sha256:')[:12]}\u2026"


def _joined(values: Mapping[str, Any], *names: str) -> str | None:
    shown = [part for part in (_plain(values.get(name)) for name in names) if part]
    return ", ".join(shown) or None


def _sample(sample: Mapping[str, Any], run: Run) -> Html:
    metric = run.metrics[0]
    score = sample["scores"].get(metric.name)
    output = str(sample.get("output") or "")
    if score is None:
        mark = tag("span", "no score", class_="mark none")
    elif not is_binary(run, metric.name):
        mark = tag("span", number(score), class_="mark")
    elif (score == 1) == metric.higher_is_better:
        mark = tag("span", "\u2713 right", class_="mark right")
    else:
        mark = tag("span", "\u2717 wrong", class_="mark wrong")
    glimpse = " ".join(output.split())
    glimpse = glimpse if len(glimpse) <= 90 else glimpse[:89] + "\u2026"
    summary = tag("summary", mark, tag("span", _item(sample), class_="item"), tag("span", glimpse, class_="glimpse"))
    given = tag("div", tag("h4", "Prompt"), _clipped(sample.get("prompt")), class_="given")
    came = [tag("h4", "Output, raw"), _clipped(output)]
    if sample.get("choices"):
        came += [tag("h4", "Choices"), _choices(sample)]
    came += [tag("h4", "Target"), _clipped(sample.get("target"))]
    others = [text for text in sample.get("references") or [] if text != sample.get("target")]
    if others:
        came += [tag("h4", "Also right"), *(_clipped(text) for text in others[:5])]
    scored = [
        tag("div", tag("dt", str(name)), tag("dd", _plain(value) or "none")) for name, value in sample["scores"].items()
    ]
    ended = _plain(sample.get("finish_reason"))
    if ended:
        scored.append(tag("div", tag("dt", "ended by"), tag("dd", ended)))
    for term, key in (("verdict", "verdict"), ("why", "verdict_detail"), ("not in its format", "format_fault")):
        if said := _plain(sample.get(key)):
            scored.append(tag("div", tag("dt", term), tag("dd", said)))
    came += [tag("h4", "Scores"), tag("dl", *scored, class_="facts")]
    return tag("details", summary, tag("div", given, tag("div", *came, class_="came"), class_="pair"), class_="sample")


def _item(sample: Mapping[str, Any]) -> str:
    epoch = sample.get("epoch", 0)
    return f"{sample['item_id']}, sample {epoch + 1}" if epoch else str(sample["item_id"])


def _clipped(value: Any) -> Html:
    shown = "" if value is None else str(value)
    if not shown:
        return tag("p", "(empty)", class_="empty")
    if len(shown) > HEAD_CHARS + TAIL_CHARS + 100:
        left_out = len(shown) - HEAD_CHARS - TAIL_CHARS
        note = f"\n[\u2026 {left_out} characters are left out here; {SAMPLES} has them \u2026]\n"
        shown = shown[:HEAD_CHARS] + note + shown[-TAIL_CHARS:]
    return preformatted(shown)


def _choices(sample: Mapping[str, Any]) -> Html:
    """The options with their summed log-likelihoods; the right one and the chosen one are named."""
    known = sample.get("loglikelihoods") or []
    items = []
    for position, choice in enumerate(sample["choices"]):
        notes = [f"{known[position]:.2f} nats"] if position < len(known) and _is_number(known[position]) else []
        notes += ["right"] if position == sample.get("gold") else []
        notes += ["chosen"] if choice == sample.get("output") else []
        items.append(tag("li", visible(str(choice)), " ", tag("small", ", ".join(notes))))
    return tag("ol", *items, class_="choices")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
