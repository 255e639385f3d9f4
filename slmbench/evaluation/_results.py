"""From lm-eval's results to a finished run: one record a sample, an estimate a metric, what it cost."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from itertools import starmap
from statistics import quantiles
from typing import Any

from attrs import asdict

from slmbench.engines.encoder_decoder import can_write
from slmbench.errors import SlmbenchError
from slmbench.evaluation._estimates import metric_parts
from slmbench.evaluation._harness import FILTER, OF_SAMPLES, Request, most_remarks
from slmbench.evaluation._journaled import JournaledEngine
from slmbench.evaluation._judge import ReadAnswer, read_answer
from slmbench.evaluation._targets import TARGET_CUT, record_of_target
from slmbench.formats import Format
from slmbench.machine import peak_memory_bytes, peak_vram_bytes
from slmbench.runs import (
    AT_LIMIT,
    AT_STOP,
    CUT,
    MEAN_TOLERANCE,
    NOT_IN_FORMAT,
    CostPart,
    OpenRun,
    Run,
    SampleRecord,
)
from slmbench.task import Task, is_among_its_shots
from slmbench.values import Example, JsonObject, Output

# What is said of items in a run's remarks.
OWN_SHOT = "shown with its answer among its own shots, so that it scores too high"


def finish(
    task: Task,
    examples: Sequence[Example],
    requests: Sequence[Request],
    format: Format,
    run: OpenRun,
    engine: JournaledEngine,
    results: JsonObject,
    latency: bool = False,
    told: Sequence[str] = (),
    choice_ms: float | None = None,
    places: Sequence[int] | None = None,
) -> Run:
    """Writes the run's samples and its record. latency: each item was computed alone. told: remarks on all items.
    choice_ms: what choosing an item's adapter took, if one was chosen. places: the run is of these of the examples
    alone, in this order.

    Raises SlmbenchError where lm-eval's numbers are not the samples'; it has none if it was asked part by part.
    """
    by_place = {sample["doc"]["index"]: sample for sample in results["samples"][task.name]}
    asked = range(len(examples)) if places is None else places
    if set(by_place) != set(asked):
        raise SlmbenchError(f"lm-eval returned {len(by_place)} of {len(asked)} items of {task.name!r}")
    rows: list[dict[str, Any]] = []
    remarks: Counter[str] = Counter(dict.fromkeys(told, len(asked)))
    for index in asked:
        made = _samples(task, examples[index], requests[index], format, engine, by_place[index])
        rows += made
        for row in made:
            remarks[f"{NOT_IN_FORMAT} {format.name}"] += row["format_fault"] is not None
            remarks[AT_LIMIT] += row["finish_reason"] == "length"
            # An object's end is a stop string, too.
            remarks[AT_STOP] += row["finish_reason"] == "stop" and format.kind != "object"
            if row.pop("target_cut", False):
                remarks[TARGET_CUT] += row["epoch"] == 0
            if why := row.pop("plain"):
                remarks[why] += row["epoch"] == 0
        remarks.update(_remarks(task, examples[index], made if task.kind == "generate" else made[:1], format))
        remarks[OWN_SHOT] += is_among_its_shots(task, examples[index])
        remarks[CUT] += made[0]["truncated"]
    if engine.encoder.encoder_decoder and task.kind != "choice":
        targets = (format.write(task.target(example)) for example in map(examples.__getitem__, asked))
        remarks["target has what the tokenizer can't write"] = sum(
            not can_write(engine.encoder.tokenizer, t) for t in targets
        )
    items = [row for row in rows if row["epoch"] == 0]
    metrics, pseudo = metric_parts(task.scorers, [examples[index] for index in asked], items)
    for metric in metrics:
        theirs = results["results"].get(task.name, {}).get(f"{metric.name},{FILTER}")
        if theirs is not None and abs(theirs - metric.value) > MEAN_TOLERANCE:
            raise SlmbenchError(f"{task.name}/{metric.name}: lm-eval says {theirs}, the samples say {metric.value}")
    counted = {name: n for name, n in sorted(remarks.items()) if n}
    cost = _cost(rows, run.resumed, latency, engine, choice_ms).model_dump(exclude_unset=True)
    samples = [SampleRecord(**row) for row in rows]
    return run.finish(
        samples, {"metrics": [metric.model_dump() for metric in metrics], "cost": cost, "remarks": counted}, pseudo
    )


def _samples(
    task: Task, example: Example, request: Request, format: Format, engine: JournaledEngine, logged: JsonObject
) -> list[JsonObject]:
    """The records of one item: one, or one a sample."""
    kind = "loglikelihood" if example.choices else "generate_until"
    arguments, index = [tuple(args) for args in logged["arguments"]], logged["doc"]["index"]
    epochs = task.spec.generation.samples if task.kind != "choice" else 1
    answers: list[ReadAnswer] = logged["filtered_resps"][0] if task.kind == "code" else []
    of_target = record_of_target(task, request, engine, index)
    made = []
    for epoch in range(epochs):
        records = [engine.record_of(task.name, kind, args, index, epoch) for args in arguments]
        loglikelihoods = [record["loglikelihood"] for record in records] if example.choices else None
        if loglikelihoods is not None:
            text = example.choices[max(range(len(loglikelihoods)), key=lambda i: loglikelihoods[i])]
            answer = ReadAnswer(text)
        else:
            text = records[0]["text"]
            answer = answers[epoch] if answers else read_answer(format, example, text)
        made.append(
            {
                "item_id": example.id,
                "epoch": epoch,
                "cluster_id": example.cluster,
                "prompt": request.text,
                "prompt_sha256": hashlib.sha256(request.text.encode(errors="surrogatepass")).hexdigest(),
                "target": task.answer(example),
                "references": list(example.references),
                "output": text,
                "format_fault": answer.fault or None,
                "verdict": answer.verdict or None,
                "verdict_detail": answer.detail or None,
                "choices": list(example.choices) or None,
                "loglikelihoods": loglikelihoods,
                "gold": example.gold,
                "finish_reason": "scored" if example.choices else records[0]["finish_reason"],
                "tokens_in": sum(record["tokens_in"] for record in records),
                "tokens_out": sum(record["tokens_out"] for record in records),
                "truncated": any(record["truncated"] for record in records),
                "plain": next((record["plain"] for record in records if "plain" in record), ""),
                "latency_ms": round(max(record["latency_ms"] for record in records), 3),
                "compute_ms": round(sum(record["share_ms"] for record in records), 3),
            }
            | of_target
            | ({} if engine.chosen is None else {"adapter": engine.chosen.of[task.name, index]})
        )
    scores, parts = _scores(task, logged)
    # Of an item, not of a sample: the unbiased estimate of pass@k is made of all its samples.
    made = [row | {"scores": scores} | ({"parts": parts} if parts else {}) for row in made]
    alone = logged.get(OF_SAMPLES)
    return made if alone is None else [row | {"sample_scores": one} for row, one in zip(made, alone, strict=True)]


def _scores(task: Task, logged: JsonObject) -> tuple[dict[str, float], JsonObject]:
    scores: dict[str, float] = {}
    parts: dict[str, Any] = {}
    for scorer in task.scorers:
        if scorer.pooled:
            assert scorer.pool is not None
            parts[scorer.name] = logged[scorer.values[0]]
            scores |= scorer.pool([parts[scorer.name]])
        else:
            scores |= {name: float(logged[name]) for name in scorer.values}
    return scores, parts


def _remarks(task: Task, example: Example, rows: Sequence[JsonObject], format: Format) -> Counter[str]:
    """What scorers want a reader to know of one item: of several samples, what is to be said of the one with most."""
    found: Counter[str] = Counter()
    for scorer in task.scorers:
        if scorer.remarks is not None:
            outputs = [Output(text=read_answer(format, example, row["output"]).text) for row in rows]
            judged = [task.judged(scorer, example, output) for output in outputs]
            found.update(most_remarks(starmap(scorer.remarks, judged)))
    return found


def _cost(
    rows: Sequence[JsonObject], resumed: int, latency: bool, engine: JournaledEngine, choice_ms: float | None
) -> CostPart:
    latencies = [row["latency_ms"] for row in rows] if latency else []
    seconds = sum(row["compute_ms"] for row in rows) / 1000
    tokens_in, tokens_out = (sum(row[key] for row in rows) for key in ("tokens_in", "tokens_out"))
    found = CostPart(
        # The model's own time, each batch's shared out among its rows; that of a resumed run's first part included.
        seconds=round(seconds, 3),
        tokens_per_s=round((tokens_in + tokens_out) / seconds, 1) if seconds else None,
        # Of items that were alone: what others that share a batch take is no latency that a user would see.
        latency_p50_ms=round(_quantile(latencies, 50), 3) if latencies else None,
        latency_p90_ms=round(_quantile(latencies, 90), 3) if latencies else None,
        # Of what a server takes, this process knows nothing.
        ram_peak_B=None if engine.options.apart == "served" else peak_memory_bytes(),
        # What another program takes of a GPU, torch doesn't know here.
        vram_peak_B=None if engine.options.apart else peak_vram_bytes(),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        n_truncated=sum(row["truncated"] for row in rows if row["epoch"] == 0),  # Prompts, not samples.
        n_resumed=resumed,
        # What an automatic batch came to, halvings included.
        batch_rows=engine.engine.computed_rows,
    )
    more: JsonObject = {} if choice_ms is None else {"choice_ms": round(choice_ms, 3)}
    more |= {} if engine.speed is None else asdict(engine.speed)
    return found.model_copy(update=more)


def _quantile(values: list[float], percent: int) -> float:
    return values[0] if len(values) == 1 else quantiles(values, n=100, method="inclusive")[percent - 1]
