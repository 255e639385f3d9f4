"""How far our engine's log-likelihoods are from those of lm-eval's HFLM, on every request of every choice task.

    SLMBENCH_DATA=mirror SLMBENCH_STORIES260K=folder python benchmarks/engine_equality.py [--limit N] [--model PATH]

Models: stories260K, the embedded model, the twin of each other model in the registry, and SmolLM2-135M-Instruct where
SLMBENCH_SMOLLM2 or `--model` names it, in float32. Tasks: all of
kind `choice`, as declared, on all rows that the mirror has of the evaluated split, in the plain format. Both sides are
slmbench's own (`--engine shared` and `--engine hf --batch 16`), with the same requests. A line a model: the largest
difference of all requests, on how many of them `is_greedy` is the same, and on how many tasks every metric is. Of the
request with the largest difference, how far each side is from the same sum in float64: a float32 sum over a hundred
tokens is itself off by 1e-4, and a difference counts as missed only where ours is off by that much.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve
from stories260k import load as load_stories

from slmbench.catalog import Catalog, default_catalog
from slmbench.engines.options import EngineOptions
from slmbench.errors import OfflineError
from slmbench.evaluation._harness import build_harness_task, render_all
from slmbench.evaluation._journaled import build_engine
from slmbench.evaluation._quiet import quiet_harness
from slmbench.formats import load_format
from slmbench.models import LoadedModel, ModelSource, bind_model, load_model, resolve_model
from slmbench.task import Task, load_task
from slmbench.values import Example, Output
from slmbench.workflow.quiet import quiet_libraries

TOLERANCE_NATS = 1e-4
HF_BATCH = 16
STORIES = "stories260K"
REAL = "real"


def models_of(catalog: Catalog, real: str | None) -> Iterator[LoadedModel]:
    """stories260K, nano, the twins of all others, and a real model where one is given."""
    model, tokenizer = load_stories(Path(os.environ["SLMBENCH_STORIES260K"]))
    yield bind_model(ModelSource(STORIES, "karpathy/tinyllamas", "memory"), model, tokenizer)
    for name in sorted(catalog.files("models")):
        yield load_model(resolve_model(name, catalog, twin=name != "nano"), dtype="float32")
    if real:
        yield load_model(evolve(resolve_model(real, catalog), name=REAL), dtype="float32")


def choice_tasks(catalog: Catalog, limit: int | None) -> list[tuple[Task, tuple[Example, ...]]]:
    found = []
    for name in sorted(catalog.files("tasks")):
        task = load_task(name, catalog)
        if task.kind == "choice":
            try:
                found.append((task, task.examples(task.spec.split, limit)))
            except OfflineError as error:
                print(f"{name}: left out, {error}", file=sys.stderr)
    return found


def instances_of(task: Task, examples: Sequence[Example], tokenizer: Any) -> list[Any]:
    style = load_format("plain")
    harness = build_harness_task(task, examples, render_all(task, examples, style, tokenizer), style)
    with quiet_harness():
        harness.build_all_requests(limit=None, rank=0, world_size=1)
    return list(harness.instances)


def means(
    task: Task, examples: Sequence[Example], instances: Sequence[Any], values: Sequence[float]
) -> dict[str, float]:
    """Each metric's mean."""
    sums: dict[int, list[float]] = {}
    for instance, value in zip(instances, values, strict=True):
        sums.setdefault(instance.doc_id, []).append(value)
    scores: dict[str, list[float]] = {}
    for index, example in enumerate(examples):
        for score in task.score(example, Output(loglikelihoods=tuple(sums[index]))):
            scores.setdefault(score.metric, []).append(score.value)
    return {name: statistics.fmean(each) for name, each in scores.items()}


def in_float64(given: Any, architecture: str, context: list[int], continuation: list[int]) -> float:
    """A log-likelihood computed in float64, as HFLM cuts and shifts it."""
    import copy

    import torch

    model = copy.deepcopy(given).double().eval()
    wanted = torch.tensor(continuation)
    with torch.no_grad():
        if architecture == "seq2seq":
            logits = model(input_ids=torch.tensor([context]), labels=wanted[None]).logits[0]
        else:
            most = int(model.config.max_position_embeddings)
            logits = model(torch.tensor([(context + continuation)[-(most + 1) :][:-1]])).logits[0]
    logged = torch.log_softmax(logits[-len(continuation) :].double(), dim=-1)  # (seq, vocab)
    return float(logged.gather(1, wanted[:, None]).sum())


def compare(loaded: LoadedModel, tasks: Sequence[tuple[Task, tuple[Example, ...]]]) -> bool:
    """Prints a model's line; whether everything is the same."""
    style = load_format("plain")
    worst, where, alike, count, equal = 0.0, "", 0, 0, 0
    farthest: tuple[Any, float, float] | None = None
    seconds = {"shared": 0.0, "hf": 0.0}
    for task, examples in tasks:
        answers = {}
        for name in seconds:
            instances = instances_of(task, examples, loaded.tokenizer)
            engine = build_engine(loaded, style, EngineOptions(name, HF_BATCH))
            begun = time.perf_counter()
            answers[name] = engine.loglikelihood(instances)
            seconds[name] += time.perf_counter() - begun
        pairs = zip(instances, answers["shared"], answers["hf"], strict=True)
        for instance, (ours, our_greedy), (theirs, their_greedy) in pairs:
            if abs(ours - theirs) > worst:
                worst, where = abs(ours - theirs), task.name
                farthest = (engine.encoder.pair(*instance.args), ours, theirs)
            alike += our_greedy == their_greedy
            count += 1
        each = [means(task, examples, instances, [value for value, _ in answers[name]]) for name in seconds]
        equal += each[0] == each[1]
    assert farthest is not None
    exact = in_float64(loaded.model, loaded.architecture, *farthest[0])
    off = [abs(side - exact) for side in farthest[1:]]
    same = min(worst, off[0]) <= TOLERANCE_NATS and alike == count and equal == len(tasks)
    print(
        f"{loaded.source.name}: {count:,} requests of {len(tasks)} tasks within {worst:.1e} nats of HFLM's (the "
        f"largest in {where}, where ours is {off[0]:.1e} and HFLM's {off[1]:.1e} off float64's), is_greedy equal "
        f"{alike:,}, metrics equal in {equal} tasks; HFLM {seconds['hf']:.0f} s, ours {seconds['shared']:.0f} s"
        f"{'' if same else '; missed'}",
        flush=True,
    )
    return same


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=int, help="items of each task")
    parser.add_argument("--only", metavar="MODEL", help="a name, or `real`")
    parser.add_argument("--model", metavar="PATH", default=os.environ.get("SLMBENCH_SMOLLM2"), help="a real model")
    arguments = parser.parse_args()
    if missing := [name for name in ("SLMBENCH_DATA", "SLMBENCH_STORIES260K") if not os.environ.get(name)]:
        sys.exit(f"set {' and '.join(missing)}")
    quiet_libraries()
    warnings.filterwarnings("ignore")
    catalog = default_catalog()
    tasks = choice_tasks(catalog, arguments.limit)
    chosen = (
        loaded
        for loaded in models_of(catalog, arguments.model)
        if arguments.only in (None, loaded.source.name.removesuffix("-twin"))
    )
    if missed := [loaded.source.name for loaded in chosen if not compare(loaded, tasks)]:
        sys.exit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
