"""What of a run's record can be made again of its own fields, and of the task that is installed here."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import field, frozen

from slmbench.catalog import Catalog
from slmbench.errors import SlmbenchError
from slmbench.formats import Format, format_names, load_format
from slmbench.leaderboard._sums import Fault, Sums
from slmbench.machine import code
from slmbench.metrics import Scorer, own_scorer
from slmbench.runs import (
    SAMPLES,
    MetricPart,
    VerifiedScores,
    beside_of,
    digits_of,
    stopped_key,
)
from slmbench.statistics.estimate import estimate
from slmbench.task import Task, formats_of, load_task
from slmbench.values import Estimate, JsonObject

_ID = re.compile(r"(?P<who>.*)__(?P<task>.*)__(?P<digits>[0-9a-f]{10})", re.DOTALL)
_NO_NAME = re.compile(r"[^A-Za-z0-9._+-]")
_CLOSE = 1e-6
_NO_FORM = "can't be made again: its format, or what its task declared for it, is not at hand here"


@frozen
class Derived:
    """What came of a record. faults: of its fields. notes: facts that are no fault, and what can't be made again."""

    faults: list[Fault] = field(factory=list)
    notes: list[str] = field(factory=list)

    def hold(self, name: str, said: object, wanted: object, of: str) -> None:
        """A field is to be as it was made again."""
        if said != wanted:
            self.faults.append((name, said, f"{wanted!r}, {of}"))


def derive(record: JsonObject, catalog: Catalog | None) -> Derived:
    """Holds the fields of a finished run's record to one another: its id, its keys, its scorer, its packages."""
    found = Derived()
    _hold_times(record, found)
    if (record.get("code") or {}).get("version") is None:
        if record.get("packages") is not None or record.get("engine_version") is not None:
            found.faults.append(("code.version", None, "the slmbench that wrote the record, which was removed"))
        else:
            found.notes.append(
                "its id and comparability key can't be made again: it doesn't name the slmbench it is of"
            )
        return found
    task, style = _here(record, catalog, found)
    # What a task declares for a format is in the key, and only the task as it was knows it.
    known = style is not None and not style.plugin and (not style.fenced or task is not None)
    declared = [[style.version, task.declared_form()]] if task is not None and style is not None else []
    _hold_key(record, declared, known, found)
    _hold_id(record, declared, known, found)
    _hold_scorer(record, found)
    _hold_packages(record, found)
    return found


def _hold_times(record: JsonObject, found: Derived) -> None:
    began, ended = (datetime.fromisoformat(record[key]) if record.get(key) else None for key in ("created", "ended"))
    if began is not None and ended is not None:
        first, last = (one if one.tzinfo else one.replace(tzinfo=UTC) for one in (began, ended))
        if last < first:
            found.faults.append(("ended", record["ended"], f"{record['created']} or later, when it was created"))


def _here(record: JsonObject, catalog: Catalog | None, found: Derived) -> tuple[Task | None, Format | None]:
    """(the task as it is installed, if that is the one that was run; the format), and what is to be said of them."""
    told = record["task"]
    name = str(record.get("format"))
    style = load_format(name) if name in format_names() else None
    if record.get("imported") is not None:
        return None, style
    try:
        task = load_task(told["id"], catalog)
        style = style or load_format(name, formats_of([task]))
        asked = task.in_format(style)
        if asked.kind != "choice" and asked.spec.cot is not None:
            asked = asked.with_cot(record.get("cot"))
        shots = (record.get("fewshot") or {}).get("n")
        asked = asked if shots is None else asked.with_shots(shots)
        here = asked.digest(style)
    except (SlmbenchError, OSError, ValueError):
        found.notes.append(f"task {told['id']!r} is not installed here: what it declares can't be held to the record")
        return None, style
    if told.get("digest") is not None and told["digest"] != here:
        since = "" if told.get("version") == task.version else f", and is version {task.version}"
        found.notes.append(f"task {told['id']!r} has changed since, or was run with other settings{since}")
        return None, style
    for key, said, is_so in (("version", told.get("version"), task.version), ("kind", told.get("kind"), task.kind)):
        found.hold(f"task.{key}", said, is_so, "as the task of that digest declares")
    return asked, style


def _hold_key(record: JsonObject, declared: Sequence[Sequence[object]], known: bool, found: Derived) -> None:
    key = record["comparability_key"]
    if (stopped := record.get("stopped")) is not None and record.get("rescored_of") is None:
        made = stopped_key(stopped["whole_key"], stopped["order_sha256"], stopped["n"])
        found.hold("comparability_key", key, made, "of stopped.whole_key, stopped.order_sha256 and stopped.n")
        found.hold("stopped.n", stopped["n"], record["dataset"].get("n"), "the items of the run, as dataset.n")
    elif record.get("imported") is not None or record.get("rescored_of") is not None:
        return  # Made of another run's key, or of files that are elsewhere.
    elif beside_of(record, declared) is None:
        if known:
            parts = "task, dataset, format, fewshot_sha256, cot, generation and sandbox"
            found.faults.append(
                ("comparability_key", key, f"the digest of {parts}: one of them was changed, or it was")
            )
        else:
            found.notes.append(f"its comparability key {_NO_FORM}")


def _hold_id(record: JsonObject, declared: Sequence[Sequence[object]], known: bool, found: Derived) -> None:
    run_id = str(record["run_id"])
    parts = _ID.fullmatch(run_id)
    if parts is None:
        found.faults.append(("run_id", run_id, "of the form model__task__digits"))
        return
    adapter = record.get("adapter")
    who = _NO_NAME.sub("-", record["model"]["name"] + (f"+{adapter['name']}" if adapter else ""))
    if record.get("imported") is None and record.get("rescored_of") is None:
        found.hold(
            "run_id", run_id, f"{who}__{record['task']['id']}__{parts['digits']}", "by its model, adapter and task"
        )
    if parts["digits"] not in digits_of(record, declared):
        if (record.get("imported") or {}).get("same_prompts_as") is not None and record.get("rescored_of") is None:
            found.notes.append("its id can't be made again: it is made of what the other tool called its task")
        elif known or record.get("imported") is not None or record.get("rescored_of") is not None:
            said = (
                "an id that ends in the digest of the fields that say who was scored on what, and of code.version: one"
            )
            found.faults.append(("run_id", run_id, f"{said} of them was changed, or the id was"))
        else:
            found.notes.append(f"its id {_NO_FORM}")


def _hold_scorer(record: JsonObject, found: Derived) -> None:
    told = record.get("scorer") or {}
    pairs = list(dict.fromkeys((one.get("scorer"), one.get("version")) for one in record["metrics"]))
    if any(None in pair for pair in pairs):
        return
    for key, place in (("id", 0), ("version", 1)):
        found.hold(f"scorer.{key}", told.get(key), "+".join(pair[place] for pair in pairs), "of the metrics' scorers")


def _hold_packages(record: JsonObject, found: Derived) -> None:
    if record.get("rescored_of") is not None:  # Its packages are those that scored it.
        return
    packages, told = record.get("packages") or {}, str(record.get("engine_version") or "")
    for name, version in packages.items():
        for part in told.split("/"):
            engine = part.removeprefix(f"{name.replace('_', '-')}-")
            if engine != part and not _is_same_version(str(version), engine):
                found.faults.append((f"packages.{name}", version, f"as engine_version says, {part!r}"))


def _is_same_version(one: str, other: str) -> bool:
    """Whether two versions are of one build, as far as both tell: a wheel's metadata may leave out `+cu130`."""
    (public, _, local), (other_public, _, other_local) = one.partition("+"), other.partition("+")
    return public == other_public and (local == other_local or not local or not other_local)


def derive_metrics(
    record: JsonObject, read: VerifiedScores, pooled: Mapping[str, Estimate], sums: Sums, catalog: Catalog | None
) -> Derived:
    """Holds what a record says of its metrics beside their values: intervals, direction, range, chance."""
    found = Derived()
    same = (record.get("code") or {}).get("version") == code()["version"]
    for place, part in enumerate(read.metrics):
        at = f"metrics.{place}"
        _hold_declared(at, part, record, catalog, sums, found)
        made = pooled.get(part.name)
        without = len(read.clusters) - len(read.scores[part.name])
        if part.n_error is not None and part.n_error not in (without, without * read.n_samples // len(read.clusters)):
            found.faults.append((f"{at}.n_error", part.n_error, f"{without}, the items without a score in {SAMPLES}"))
        try:
            if made is None:
                of_item = read.scores[part.name]
                made = estimate(list(of_item.values()), [read.clusters[item] for item in of_item], part.bounds)
        except ValueError as error:
            found.notes.append(f"the interval of {part.name!r} can't be made again: {error}")
            continue
        told: dict[str, tuple[Any, Any]] = {
            "method": (part.method, made.method),
            "se": (part.se, made.stderr),
            "ci_lo": (part.ci_lo, made.ci_low),
            "ci_hi": (part.ci_hi, made.ci_high),
        }
        odd = [key for key, (said, value) in told.items() if said is not None and not _close(said, value)]
        if odd and not same:
            found.notes.append(
                f"the interval of {part.name!r} comes out otherwise with this slmbench: {', '.join(odd)}"
            )
        elif odd:
            for key in odd:
                found.hold(f"{at}.{key}", told[key][0], told[key][1], f"made of the scores in {SAMPLES}")
    return found


def _close(said: Any, value: Any) -> bool:
    if isinstance(said, str):
        return bool(said == value)
    return math.isclose(said, value, rel_tol=_CLOSE, abs_tol=_CLOSE)


def _hold_declared(
    at: str, part: MetricPart, record: JsonObject, catalog: Catalog | None, sums: Sums, found: Derived
) -> None:
    """What the metric itself says of each of its values."""
    if part.scorer is None or part.version is None:
        return
    try:
        scorer = own_scorer(part.scorer) or _of_task(part.scorer, record, catalog)
    except (SlmbenchError, OSError, ValueError):
        scorer = None
    if scorer is None or scorer.version != part.version:
        if record.get("imported") is None:
            found.notes.append(
                f"metric {part.scorer!r} of version {part.version} is not at hand: its facts stand as told"
            )
        return
    if part.name not in scorer.values:
        found.faults.append(
            (f"{at}.name", part.name, f"one of {', '.join(scorer.values)}, the values of {part.scorer}")
        )
    of = f"as {part.scorer} says"
    found.hold(f"{at}.pooled", bool(part.pooled), scorer.pooled, of)
    found.hold(f"{at}.higher_is_better", part.higher_is_better, scorer.higher_is_better, of)
    found.hold(f"{at}.describes", part.describes, scorer.describes, of)
    found.hold(f"{at}.range", part.range, None if scorer.range is None else list(scorer.range), of)
    guesses = sums.guesses if scorer.kind == "choice" and scorer.range is not None else []
    chance = math.fsum(guesses) / len(guesses) if guesses else None
    if (part.chance is None) != (chance is None) or (chance is not None and not _close(part.chance, chance)):
        found.faults.append((f"{at}.chance", part.chance, f"{chance}, of the choices in {SAMPLES}"))


def _of_task(name: str, record: JsonObject, catalog: Catalog | None) -> Scorer | None:
    task = load_task(record["task"]["id"], catalog)
    return next((one for one in task.scorers if one.name == name), None)
