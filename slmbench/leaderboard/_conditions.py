"""How a task was asked, as a person would say it: the conditions that its runs' comparability keys stand for."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from attrs import frozen

from slmbench.leaderboard._records import ScoredRun
from slmbench.leaderboard.table import Condition
from slmbench.leaderboard.texts import natural
from slmbench.runs import sandbox_told
from slmbench.values import JsonObject

_SANDBOX = {"in_process": "in process", "unsafe": "no jail"}
_NOT_IN_SLUGS = re.compile(r"[^\w.,+-]+")


@frozen
class TaskCondition:
    """One condition of a task, and the runs that were made under it."""

    condition: Condition
    runs: tuple[ScoredRun, ...]


def conditions_of(runs: Sequence[ScoredRun]) -> list[TaskCondition]:
    """The conditions of one task, the most common one first, the others by their labels (0, 1, 2, 10).

    Conditions with runs of all items of real data go before those with a limit or on sample rows. Of the rest the most
    common one is that of most models; of two with as many, that with the newest run.
    """
    groups: dict[str, list[ScoredRun]] = defaultdict(list)
    for run in runs:
        groups[run.condition_key].append(run)
    # One that was stopped says less of the condition: it has some of the items.
    newest = {
        key: max(group, key=lambda run: (run.stopped is None, run.created, run.run_id)) for key, group in groups.items()
    }

    def commonness(key: str) -> tuple[object, ...]:
        whole = any(not run.badges for run in groups[key])
        rows = len({(run.model, run.quantization, run.adapter) for run in groups[key]})
        return whole, rows, newest[key].created, key

    first = max(groups, key=commonness)
    terms = {key: _terms(newest[key], groups[key]) for key in groups}
    made = [
        TaskCondition(_condition(newest[key], terms[key], label, slug), tuple(groups[key]))
        for key, (label, slug) in _labels(terms, first).items()
    ]

    def order(asked: TaskCondition) -> tuple[object, ...]:
        condition = asked.condition
        return condition.key != first, not any(not run.badges for run in asked.runs), natural(condition.label)

    return sorted(made, key=order)


def _condition(run: ScoredRun, terms: Mapping[str, str], label: str, slug: str) -> Condition:
    record = run.record
    generation = record.get("generation") or {}
    return Condition(
        run.condition_key,
        run.task,
        label,
        slug,
        record.get("format"),
        (record.get("fewshot") or {}).get("n"),
        record.get("cot"),
        record["task"].get("version"),
        record.get("limit") if terms["limit"] != "all items" else None,
        _whole(generation.get("max_gen_toks")),
        record["dataset"].get("source"),
        record["dataset"].get("n") if run.stopped is None else run.stopped.total,
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _terms(run: ScoredRun, group: Sequence[ScoredRun]) -> dict[str, str]:
    """What -> how a person would call it, of everything that a comparability key is made of; '' of what is usual."""
    record = run.record
    dataset, scorer, generation = record["dataset"], record.get("scorer") or {}, record.get("generation") or {}
    shots, version = (record.get("fewshot") or {}).get("n"), record["task"].get("version")
    limits = [one.record.get("limit") for one in group]
    counted = [limit for limit in limits if limit is not None]
    tools = {one.imported for one in group}
    tokens, samples = _whole(generation.get("max_gen_toks")), _whole(generation.get("samples"))
    return {
        "rows": "sample rows" if dataset.get("source") == "samples" else "",
        "tool": "" if None in tools else f"by {', '.join(sorted(map(str, tools)))}",
        "limit": f"limit {min(counted)}" if len(counted) == len(limits) else "all items",
        "format": str(record.get("format") or ""),
        "shots": "" if shots is None else "1 shot" if shots == 1 else f"{shots} shots",
        "cot": f"cot {record['cot']}" if record.get("cot") else "",
        "version": "" if version is None else f"version {version}",
        "split": str(dataset.get("split") or ""),
        "max_tokens": "" if tokens is None else f"at most {tokens} tokens",
        "temperature": f"temperature {generation.get('temperature')}" if sampling(record) else "greedy",
        "samples": "" if samples is None or samples == 1 else f"{samples} samples",
        "sandbox": ", ".join(_SANDBOX.get(one, one) for one in sandbox_told(record.get("sandbox"))),
        # From here on: only if what stands above leaves conditions with the same name.
        "metrics": str(scorer.get("id") or ""),
        "scorer": f"scorer {scorer.get('version')}",
        "n": f"{dataset.get('n')} items",
        "stop": f"stop {json.dumps(generation.get('until'), default=str)}",
        "shown": f"shots {str(record.get('fewshot_sha256'))[:6]}",
        "items": f"items {str(dataset.get('items_sha256'))[:6]}",
        "key": f"key {run.condition_key[:12]}",
        "whole key": f"key {run.condition_key}",
    }


_LAST_RESORTS = ("metrics", "scorer", "n", "stop", "shown", "items", "key", "whole key")


def _labels(terms: Mapping[str, Mapping[str, str]], first: str) -> dict[str, tuple[str, str]]:
    """Comparability key -> (label, slug) of each condition of a task; all labels differ, and so do all slugs."""

    def told_apart(names: Sequence[str]) -> int:
        return len({tuple(told[name] for name in names) for told in terms.values()})

    names = [name for name in terms[first] if name not in _LAST_RESORTS and told_apart([name]) > 1]
    for name in _LAST_RESORTS:
        if told_apart(names) < len(terms) and told_apart([*names, name]) > told_apart(names):
            names.append(name)
    made = {}
    for key, told in terms.items():
        label = ", ".join(told[name] for name in names if told[name])
        differing = [told[name] or f"no {name}" for name in names if told[name] != terms[first][name]]
        made[key] = label, ",".join(_NOT_IN_SLUGS.sub("-", part).strip("-") for part in differing)
    if len(set(made.values())) < len(made) or len({slug for _, slug in made.values()}) < len(made):
        return {
            key: (f"{label}, {key}", "" if key == first else f"{slug},{key}") for key, (label, slug) in made.items()
        }
    return made


def sampling(record: JsonObject) -> bool:
    """Whether another seed could have given another answer."""
    generation = record.get("generation") or {}
    temperature = generation.get("temperature")
    return bool(generation.get("do_sample")) or (isinstance(temperature, (int, float)) and temperature > 0)
