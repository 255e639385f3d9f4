"""Run folders as many evaluations would leave them, without a model: by the one writer of runs, in seconds.

    python benchmarks/_synthetic.py OUT [--models 200] [--tasks 20] [--items 500] [--columns 46] [--chars 600]

A model has a skill and an item a difficulty; whether one solves the other is drawn from both (Rasch 1960), so that
scores of two models agree on most items, as those of real models do. Every fourth row is an adapter on the model above
it. Tasks have one to three metrics: right or wrong, F1 in eighths, right or wrong by a looser rule. All is seeded.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from slmbench.runs import (
    AdapterPart,
    CostPart,
    DatasetPart,
    ItemScores,
    MetricPart,
    ModelPart,
    OpenRun,
    RunIdentity,
    SampleRecord,
    ScorerPart,
    ShotsPart,
    TaskPart,
    canonical_sha256,
    cluster_hash,
    comparability_keys,
    item_hash,
    sample_line,
)
from slmbench.statistics.estimate import estimate

METRICS = ("exact_match/strict", "token_f1", "exact_match/flexible")
EIGHTHS = 8
FAMILIES = ("alder", "birch", "cedar", "dogwood", "elm", "fir")
SIZES = {"60m": 60, "135m": 135, "360m": 360, "0.5b": 500, "1.5b": 1500, "3b": 3000, "4b": 4000}  # Millions.
OUTPUTS = 4
TOKENS_IN, TOKENS_OUT = 150, 8
_OUTPUT, _SCORES = "@output@", "@scores@"


@frozen
class Row:
    """Who is scored. skill: in logits."""

    model: str
    millions: int
    skill: float
    adapter: str | None = None


@frozen(eq=False)
class TaskItems:
    """The items of a task, each as the pieces of a line that all its runs have alike."""

    name: str
    metrics: tuple[str, ...]
    ids: tuple[str, ...]
    clusters: tuple[str | None, ...]
    difficulty: Any = field(repr=False)
    heads: tuple[bytes, ...] = field(repr=False)
    outputs: tuple[tuple[bytes, ...], ...] = field(repr=False)
    middles: tuple[bytes, ...] = field(repr=False)


def rows(models: int, seed: int = 0) -> list[Row]:
    """Who is scored: unlike skills, sizes and families, every fourth one an adapter on the model before it."""
    drawn = random.Random(f"rows {seed}")
    made: list[Row] = []
    for number in range(models):
        if number % 4 == 3:
            made.append(evolve(made[-1], skill=made[-1].skill + drawn.gauss(0.4, 0.3), adapter=f"lora-{number:04}"))
            continue
        size = list(SIZES)[number % len(SIZES)]
        skill = math.log(SIZES[size] / 500) * 0.5 + drawn.gauss(0, 0.5)
        made.append(Row(f"{FAMILIES[number % len(FAMILIES)]}-{size}-{number:04}", SIZES[size], skill))
    return made


def task_items(number: int, items: int, metrics: Sequence[str], *, chars: int, clustered: bool, seed: int) -> TaskItems:
    """The items of a task. chars: of a prompt, about. clustered: ten items ask about one text."""
    import numpy as np

    drawn = random.Random(f"task {number} {seed}")
    words = [f"word{one}" for one in range(1000)]
    name = f"task-{number:02}"
    ids, clusters, heads, outputs, middles = [], [], [], [], []
    for position in range(items):
        item, cluster = f"test-{position}", f"text-{position // 10}" if clustered else None
        prompt = " ".join(drawn.choices(words, k=max(1, chars // 8)))
        right = " ".join(drawn.choices(words, k=6))
        line = sample_line(
            SampleRecord(
                item_id=item,
                epoch=0,
                cluster_id=cluster,
                prompt=prompt,
                prompt_sha256=hashlib.sha256(prompt.encode()).hexdigest(),
                target=right,
                references=[right],
                output=_OUTPUT,
                format_fault=None,
                choices=None,
                loglikelihoods=None,
                gold=None,
                finish_reason="eos",
                tokens_in=TOKENS_IN,
                tokens_out=TOKENS_OUT,
                truncated=False,
                scores={_SCORES: 0.0},
            )
        )
        head, _, rest = line.partition(json.dumps(_OUTPUT))
        middle = rest.partition(json.dumps({_SCORES: 0.0}))[0]
        wrong = [" ".join(drawn.choices(words, k=6)) for _ in range(OUTPUTS - 1)]
        ids.append(item)
        clusters.append(cluster)
        heads.append(head.encode())
        outputs.append(tuple(json.dumps(text).encode() for text in (right, *wrong)))
        middles.append(middle.encode())
    difficulty = np.random.default_rng([seed, number]).normal(0.3 * (number % 5 - 2), 1.5, items)
    return TaskItems(
        name, tuple(metrics), tuple(ids), tuple(clusters), difficulty, tuple(heads), tuple(outputs), tuple(middles)
    )


def write_runs(
    out: Path,
    *,
    models: int,
    tasks: int,
    items: int,
    columns: int | None = None,
    chars: int = 600,
    clustered: int = 0,
    seed: int = 0,
) -> Iterator[Path]:
    """The folders of models x tasks runs in `out`/runs, one after another. columns: metrics of all tasks, 2 each unless
    given, 3 at most. clustered: how many tasks have their items in clusters of ten."""
    columns = 2 * tasks if columns is None else columns
    if not tasks <= columns <= len(METRICS) * tasks:
        raise ValueError(f"{columns} columns for {tasks} tasks of 1 to {len(METRICS)} metrics")
    who = rows(models, seed)
    for number in range(tasks):
        metrics = METRICS[: columns // tasks + (number < columns % tasks)]
        of_task = task_items(number, items, metrics, chars=chars, clustered=number < clustered, seed=seed)
        for position, row in enumerate(who):
            yield _write_run(out, row, of_task, [seed, number, position])


def _write_run(out: Path, row: Row, task: TaskItems, seed: list[int]) -> Path:
    import numpy as np

    drawn, n = np.random.default_rng([*seed, 1]), len(task.ids)
    solved = drawn.random(n) < 1 / (1 + np.exp(task.difficulty - row.skill))
    partial = np.where(solved, EIGHTHS, drawn.integers(0, EIGHTHS, n)) / EIGHTHS
    loosely = solved | (drawn.random(n) < 0.05)
    columns = dict(zip(METRICS, (solved.astype(float), partial, loosely.astype(float)), strict=True))
    scores = {name: columns[name] for name in task.metrics}
    texts: dict[tuple[float, ...], bytes] = {}
    which = np.where(solved, 0, drawn.integers(1, OUTPUTS, n)).tolist()
    pieces: list[bytes] = []
    for position, values in enumerate(zip(*(column.tolist() for column in scores.values()), strict=True)):
        if (said := texts.get(values)) is None:
            said = texts[values] = json.dumps(dict(zip(scores, values, strict=True))).encode() + b"}\n"
        pieces += (task.heads[position], task.outputs[position][which[position]], task.middles[position], said)
    identity = _identity(row, task)
    who = row.model + (f"+{row.adapter}" if row.adapter else "")
    run_id = f"{who}__{task.name}__{canonical_sha256(identity.as_json())[:10]}"
    facts = {"run_id": run_id, **identity.as_json(), "comparability_key": comparability_keys(identity.as_json())[0]}
    folder = out / "runs" / run_id
    folder.mkdir(parents=True, exist_ok=True)
    clusters = None
    if any(task.clusters):
        clusters = np.array([cluster_hash(label) for label in task.clusters], np.int64)
    made = ItemScores(
        np.array([item_hash(one) for one in task.ids], np.uint64),
        {name: column.astype(np.float32) for name, column in scores.items()},  # Eighths lose nothing.
        clusters,
        n,
    )
    metrics = [_metric(name, column.tolist(), task) for name, column in scores.items()]
    tokens = {"tokens_in": n * TOKENS_IN, "tokens_out": n * TOKENS_OUT}
    seconds = n * row.millions / 20_000
    cost = CostPart(
        seconds=round(seconds, 3),
        tokens_per_s=round(n * (TOKENS_IN + TOKENS_OUT) / seconds, 1),
        ram_peak_B=int(300e6 + row.millions * 4e6),
        n_truncated=0,
        n_resumed=0,
        **tokens,
    )
    run = OpenRun(str(folder), facts)
    run.finish_written(b"".join(pieces), made, {"metrics": metrics, "cost": cost.model_dump(exclude_unset=True)})
    return folder


def _metric(name: str, column: list[float], task: TaskItems) -> dict[str, Any]:
    found = estimate(column, list(task.clusters), (0.0, 1.0))
    part = MetricPart(
        name=name,
        scorer=name.partition("/")[0],
        version="1",
        pooled=False,
        value=found.value,
        se=found.stderr,
        ci_lo=found.ci_low,
        ci_hi=found.ci_high,
        method=found.method,
        n=len(column),
        n_error=0,
        higher_is_better=True,
        range=[0.0, 1.0],
    )
    return part.model_dump(exclude_unset=True)


def _identity(row: Row, task: TaskItems) -> RunIdentity:
    digest = canonical_sha256
    adapter = None
    if row.adapter is not None:
        adapter = AdapterPart(
            name=row.adapter,
            sha256=digest([row.model, row.adapter]),
            bytes=row.millions * 40_000,
            parameters=row.millions * 10_000,
            rank=16,
            method="lora",
            recipe="synthetic",
            train_seed=0,
            train_s=row.millions * 0.5,
            tasks=[task.name],
        )
    return RunIdentity(
        seed=0,
        limit=None,
        model=ModelPart(
            name=row.model,
            id=f"synthetic/{row.model}",
            weights_sha256=digest(row.model),
            dtype="bfloat16",
            parameters=row.millions * 1_000_000,
        ),
        adapter=adapter,
        tokenizer_sha256=digest("tokenizer"),
        format="plain",
        task=TaskPart(id=task.name, version=1, digest=digest(task.name), kind="generate"),
        dataset=DatasetPart(
            id=f"synthetic/{task.name}",
            split="test",
            source="generated",
            item_ids_sha256=digest(list(task.ids)),
            items_sha256=digest([task.name, list(task.ids)]),
            n=len(task.ids),
        ),
        fewshot=ShotsPart(n=0),
        cot="off",
        generation={"max_gen_toks": 32},
        scorer=ScorerPart(id="+".join(task.metrics), version="+".join("1" for _ in task.metrics), weights={}),
        engine="shared",
    )


def main() -> None:
    """Writes runs and says how many, how large and how fast."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--columns", type=int, default=46, help="metrics of all tasks")
    parser.add_argument("--chars", type=int, default=600, help="of a prompt")
    parser.add_argument("--clustered", type=int, default=0, help="how many tasks have clusters of ten items")
    args = vars(parser.parse_args())
    started = time.monotonic()
    folders = list(write_runs(args.pop("out"), **args))
    size = sum(path.stat().st_size for folder in folders for path in folder.iterdir()) / 1e6
    print(f"{len(folders)} runs of {args['items']} items, {size:.0f} MB, in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
