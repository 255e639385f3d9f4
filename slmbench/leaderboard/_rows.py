"""Which runs are of one row, what the row is called, and what it takes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from attrs import evolve, field, frozen

from slmbench.leaderboard._conditions import sampling
from slmbench.leaderboard._records import ScoredRun
from slmbench.leaderboard.texts import held_name
from slmbench.values import JsonObject

_SEED_AT_END = re.compile(r"[-_. ]?(?:seed|s)[-_=]?\d+\Z", re.IGNORECASE)
LONGEST = 40
"""Of a method that is a part of a name: one that lists what was merged is no name."""
MOST_SETTINGS = 4
"""Of a training that are a part of a name."""
# In this order they tell adapters of one name apart.
_VARIANTS = ("rank", "recipe", "method", "tasks", "seeds")


@frozen
class Who:
    """Whom a row is of. adapter: its name, the number of a seed at its end apart if it is trained with several.

    variant: what tells it from others of the same name; '' if there is none. runs: all that could be shown in the row.
    seeds: of the trainings that are one row; () of one training.
    """

    model: str
    quantization: str | None
    adapter: str | None
    runs: tuple[ScoredRun, ...] = field(repr=False)
    variant: str = ""
    seeds: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """As people read it: `nano (nf4) + note (rank 16)`."""
        model = held_name(self.model, self.quantization)
        named = model if self.adapter is None else f"{model} + {self.adapter}"
        return f"{named} ({self.variant})" if self.variant else named

    def seeds_of(self, run: ScoredRun) -> tuple[int, int]:
        """What a run's seeds are, as far as another seed could have given other answers: training's, evaluation's."""
        return (
            int(adapter_of(run).get("train_seed") or 0) if self.seeds else 0,
            int(run.record.get("seed") or 0) if sampling(run.record) else 0,
        )


def adapter_of(run: ScoredRun) -> JsonObject:
    """What a run's record says of its adapter; {} without one."""
    return run.record.get("adapter") or {}


def rows_of(runs: Sequence[ScoredRun]) -> list[Who]:
    """The rows of a leaderboard of these runs.

    A model, its quantization and its adapter are a row. Trainings that differ in their seed alone are one row; if two
    of them have the same seed, the newer one is in it. Adapters of one name and different weights are rows of their
    own, told apart by rank, recipe, method, tasks and seed as far as these differ, then by how they were trained, by
    their digests' first digits otherwise.
    """
    by_weights: dict[tuple[object, ...], list[ScoredRun]] = defaultdict(list)
    for run in runs:
        by_weights[run.model, run.quantization, run.adapter, adapter_of(run).get("sha256")].append(run)
    families: dict[tuple[object, ...], dict[object, list[list[ScoredRun]]]] = defaultdict(lambda: defaultdict(list))
    alone: list[list[ScoredRun]] = []
    for group in by_weights.values():
        adapter = adapter_of(group[0])
        setting = adapter.get("setting_sha256") or adapter.get("recipe_sha256")
        if setting is None or adapter.get("train_seed") is None or adapter.get("sha256") is None:
            alone.append(group)
            continue
        stem = _SEED_AT_END.sub("", str(adapter["name"])) or str(adapter["name"])
        first = group[0]
        family: tuple[object, ...] = (
            first.model,
            first.quantization,
            stem,
            setting,
            adapter.get("rank"),
            adapter.get("method"),
        )
        families[family][adapter["train_seed"]].append(group)
    made: list[Who] = []
    for of, by_seed in families.items():
        if len(by_seed) == 1:
            alone.extend(group for groups in by_seed.values() for group in groups)
            continue
        together: list[ScoredRun] = []
        for groups in by_seed.values():
            newest, *older = sorted(groups, key=lambda group: max(run.created for run in group), reverse=True)
            together.extend(newest)
            alone.extend(older)
        names = {run.adapter for run in together}
        adapter_name = str(together[0].adapter) if len(names) == 1 else str(of[2])
        seeds = tuple(sorted(int(str(seed)) for seed in by_seed))
        made.append(Who(together[0].model, together[0].quantization, adapter_name, tuple(together), seeds=seeds))
    made.extend(Who(group[0].model, group[0].quantization, group[0].adapter, tuple(group)) for group in alone)
    return _told_apart(made)


def _told_apart(rows: Iterable[Who]) -> list[Who]:
    named: dict[str, list[Who]] = defaultdict(list)
    for row in rows:
        named[row.name].append(row)
    return [
        evolve(row, variant=variant)
        for same in named.values()
        for row, variant in zip(same, _variants(same), strict=True)
    ]


def _variants(rows: Sequence[Who]) -> list[str]:
    if len(rows) == 1:
        return [""]
    told = [_attributes(row) for row in rows]
    differing = [name for name in _VARIANTS if len({one[name] for one in told}) > 1]
    texts = [", ".join(one[name] for name in differing if one[name]) for one in told]
    if len(set(texts)) < len(rows):
        texts = _with_settings(texts, rows)
    for digits in (6, 12, 64):
        if len(set(texts)) == len(rows):
            break
        same = {text for text in texts if texts.count(text) > 1}
        texts = [
            ", ".join(filter(None, (text, str(adapter_of(row.runs[0]).get("sha256"))[:digits])))
            if text in same
            else text
            for text, row in zip(texts, rows, strict=True)
        ]
    if len(set(texts)) < len(rows):
        return [", ".join(filter(None, (text, str(number)))) for number, text in enumerate(texts, 1)]
    return texts


def _with_settings(texts: Sequence[str], rows: Sequence[Who]) -> list[str]:
    """Names of rows, with what differs in how those of one name were trained."""
    alike: dict[str, list[JsonObject]] = defaultdict(list)
    for text, row in zip(texts, rows, strict=True):
        alike[text].append(_settings(row))
    found = []
    for text, row in zip(texts, rows, strict=True):
        same, own = alike[text], _settings(row)
        differing = [key for key in own if any(other.get(key) != own[key] for other in same)]
        found.append(", ".join(filter(None, (text, *(f"{key} {own[key]}" for key in differing[:MOST_SETTINGS])))))
    return found


def _settings(row: Who) -> JsonObject:
    """What a row's training said of itself; {} in earlier records."""
    return adapter_of(row.runs[0]).get("settings") or {}


def _attributes(row: Who) -> dict[str, str]:
    adapter = adapter_of(row.runs[0])
    seed = adapter.get("train_seed")
    tasks, method = adapter.get("tasks") or [], str(adapter.get("method") or "")
    return {
        "rank": "" if adapter.get("rank") is None else f"rank {adapter['rank']}",
        "recipe": f"recipe {adapter['recipe']}" if adapter.get("recipe") else "",
        "method": method if len(method) <= LONGEST else "",
        "tasks": "" if not tasks else f"on {tasks[0]}" if len(tasks) == 1 else f"on {len(tasks)} tasks",
        "seeds": f"{len(row.seeds)} seeds" if row.seeds else "" if seed is None else f"seed {seed}",
    }


def costs_of(who: Who, shown: Sequence[ScoredRun], shared: Mapping[str, str]) -> dict[str, float | int | None]:
    """What a row takes. shown: the runs of its cells. shared: task -> comparability key, what all rows have.

    Seconds and tokens are summed over the shared tasks, so that rows can be compared, and are None if one of these
    doesn't say; several seeds count with their mean. Seconds are of runs that computed in batches, latencies of runs
    that computed one item after another. Memory is the largest of the shown runs, the speed of one stream their median.
    Sizes are those of the newest run.
    """
    newest = max(shown, key=lambda run: (run.created, run.run_id))
    ids = {run.run_id for run in shown}

    def over_tasks(name: str, single: bool | None) -> list[float] | None:
        """The cost of each shared task; None if one is not known. single: of runs one item after another alone."""
        found = []
        for task, key in shared.items():
            # What a part of the items took is no cost of the task.
            runs = [run for run in who.runs if run.task == task and run.comparability_key == key]
            if single is not None:
                runs = [run for run in runs if (run.record.get("latency") is not None) == single]
            runs = [run for run in runs if run.run_id in ids] or runs
            known = [value for run in runs if (value := number_of(run.record["cost"].get(name))) is not None]
            if not known:
                return None
            found.append(sum(known) / len(known))
        return found or None

    def total(name: str, single: bool | None = None) -> float | int | None:
        parts = over_tasks(name, single)
        whole = None if parts is None else sum(parts)
        return int(whole) if whole is not None and name.startswith("tokens") else whole

    def largest(name: str) -> float | int | None:
        known = (number_of(run.record["cost"].get(name)) for run in shown)
        return max((value for value in known if value is not None), default=None)

    def middle(name: str) -> float | int | None:
        known = [value for run in shown if (value := number_of(run.record["cost"].get(name))) is not None]
        return median(known) if known else None

    latencies = over_tasks("latency_p50_ms", True)
    trained = {adapter_of(run).get("sha256"): number_of(adapter_of(run).get("train_s")) for run in shown}
    seconds = [value for value in trained.values() if value is not None]
    return {
        "parameters": number_of(newest.record["model"].get("parameters")),
        "adapter_bytes": number_of(adapter_of(newest).get("bytes")),
        "adapter_parameters": number_of(adapter_of(newest).get("parameters")),
        "train_s": sum(seconds) / len(seconds) if seconds else None,
        "seconds": total("seconds", False),
        "latency_p50_ms": sum(latencies) / len(latencies) if latencies else None,
        "ram_peak_B": largest("ram_peak_B"),
        "vram_peak_B": largest("vram_peak_B"),
        "prefill_tokens_per_s": middle("prefill_tokens_per_s"),
        "decode_tokens_per_s": middle("decode_tokens_per_s"),
        "load_s": middle("load_s"),
        "model_B": largest("model_B"),
        "tokens_in": total("tokens_in"),
        "tokens_out": total("tokens_out"),
    }


def number_of(value: object) -> float | int | None:
    """A value that a cost can be: 0 or more and finite; None otherwise."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e18:
        return value
    return None
