"""What ships, measured as it ships: an adapter merged and packed into files, each scored by the program that runs it.

Each file is scored in a process of its own, so that its peak of memory is its own, and a file that kills llama.cpp ends
no other.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from attrs import field, frozen

from slmbench.catalog import Catalog
from slmbench.console import say
from slmbench.deployment import export_adapter
from slmbench.engines.options import EngineOptions
from slmbench.errors import SlmbenchError, UsageError
from slmbench.foreign import Foreign, decode_json, parse, read_object
from slmbench.gguf_files import check_writable, quantiser, read_kinds
from slmbench.leaderboard import Who, read_runs, rows_of
from slmbench.machine import code
from slmbench.models import load_config, read_adapter, resolve_model
from slmbench.paths import shown
from slmbench.recipe import Recipe
from slmbench.task import Task
from slmbench.values import JsonObject
from slmbench.workflow.compare import Comparison, compare_plan
from slmbench.workflow.deployed import deployed_sentence
from slmbench.workflow.sides import ComparePlan

ENGINE = "llamacpp"
MERGED = "merged"


@frozen
class Shipment:
    """One way to ship an adapter. place: a model's folder or a GGUF file. engine: what runs it."""

    adapter: str
    kind: str
    place: str
    engine: str


@frozen
class Scoring:
    """How shipments are asked: as the adapters were. flags: of `slmbench eval`."""

    out: str
    format: str
    tasks: tuple[str, ...]
    flags: tuple[str, ...] = ()


@frozen
class Deployed:
    """runs: folders of finished runs. sentences: what each loses and wins. failures: what didn't work."""

    runs: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    failures: tuple[str, ...] = field(default=())


def refuse_deployment(kinds: Sequence[str], recipe: Recipe, catalog: Catalog, *, twin: bool) -> None:
    """Raises UsageError, before anything is trained, for kinds that nothing here packs, a model that no GGUF file can
    hold, and if llama.cpp is missing.
    """
    EngineOptions(ENGINE).require()
    for kind in read_kinds(kinds, "--deploy"):
        quantiser(kind)
    if recipe.spec.method == "full":
        raise UsageError("--deploy ships adapters, and this recipe trains all weights (method: full)")
    check_writable(load_config(resolve_model(recipe.spec.model, catalog, twin=twin)))


def deploy(
    folders: Sequence[str], kinds: Sequence[str], scoring: Scoring, own: dict[str, tuple[str, ...]], catalog: Catalog
) -> Deployed:
    """Writes and scores what adapters ship as, and sets each file against its adapter's own run.

    folders: of the adapters. own: name of an adapter -> tasks that it is scored on, if not on all. What fails is told
    and ends nothing else.
    """
    runs: list[str] = []
    sentences: list[str] = []
    failures: list[str] = []
    for folder in folders:
        name = os.path.basename(os.path.abspath(folder))
        tasks = own.get(name, scoring.tasks)
        if not tasks:
            say(f"{name}: none of its tasks is evaluated, so that nothing is shipped")
            continue
        try:
            shipments = ship(folder, kinds, scoring.out, catalog)
        except SlmbenchError as error:
            failures.append(f"{name} is not exported: {error}")
            say(f"problem: {failures[-1]}")
            continue
        merged: dict[str, str] = {}
        for number, one in enumerate(shipments, 1):
            say(f"{name}: scoring what ships, {number} of {len(shipments)}: {shown(one.place)}")
            try:
                made = scored(one, tasks, scoring)
            except SlmbenchError as error:
                failures.append(str(error))
                say(f"problem: {error}")
                continue
            runs += made.values()
            sentences += compared(one, made, merged, scoring.out, catalog)
            merged = made if one.kind == MERGED else merged
    return Deployed(tuple(runs), tuple(sentences), tuple(failures))


def ship(folder: str, kinds: Sequence[str], out: str, catalog: Catalog) -> list[Shipment]:
    """The merged weights and a GGUF file of each kind; those of a call before, if nothing has changed since.

    Raises what `export_adapter` raises.
    """
    name = os.path.basename(os.path.abspath(folder))
    merged, packed = (os.path.join(out, "models", f"{name}-{to}") for to in ("merged", "gguf"))
    wanted = [kind.name for kind in read_kinds(kinds)]
    if _kept(merged, folder) is None:
        export_adapter(folder, "merged", catalog, out=out)
    record = _kept(packed, folder)
    if record is None or [one["kind"] for one in record["gguf"]] != wanted:
        record = export_adapter(folder, "gguf", catalog, out=out, quantize=tuple(kinds)).record
    files = {str(one["kind"]): os.path.join(packed, one["file"]) for one in record["gguf"]}
    found = [Shipment(name, MERGED, merged, "shared")]
    return found + [Shipment(name, kind, file, ENGINE) for kind, file in files.items()]


def _kept(place: str, adapter: str) -> JsonObject | None:
    """What an export's record says, if it is of this adapter, made by this code, and whole; else None."""
    try:
        record = read_object(os.path.join(place, "export.json"))
        same = (record["adapter"]["sha256"], record["code"]) == (read_adapter(adapter).sha256, code())
        whole = all(os.path.getsize(os.path.join(place, name)) == size for name, size in record["files"].items())
    except (OSError, SlmbenchError, KeyError, TypeError, AttributeError):
        return None
    return record if same and whole and not record["code"].get("dirty") else None


def scored(shipment: Shipment, tasks: Sequence[str], scoring: Scoring) -> dict[str, str]:
    """task -> the folder of its run, of a process of its own. Raises SlmbenchError if one is missing."""
    command = [sys.executable, "-m", "slmbench", "eval", shipment.place, "--tasks", ",".join(tasks)]
    command += ["--format", scoring.format, "--engine", shipment.engine, "--out", scoring.out, "--speed", "--json"]
    command += ["--latency"] * (shipment.engine == ENGINE)
    done = subprocess.run([*command, *scoring.flags], stdout=subprocess.PIPE, check=False)
    found = {one.task.id: os.path.join(scoring.out, "runs", one.run_id) for one in _records(done.stdout)}
    if missing := [task for task in tasks if task not in found]:
        ended = f"exit {done.returncode}" if done.returncode >= 0 else f"signal {-done.returncode}"
        raise SlmbenchError(
            f"{shown(shipment.place)} has no run of {', '.join(missing)} ({ended}; why is said above); the same "
            "command goes on from there"
        )
    return found


class _TaskOfRun(Foreign):
    id: str


class _RunRecord(Foreign):
    run_id: str
    task: _TaskOfRun


class _Records(Foreign):
    runs: list[_RunRecord]


def _records(printed: bytes) -> list[_RunRecord]:
    """What `slmbench eval --json` printed; [] for what isn't whole, as of a process that was killed."""
    try:
        value = {"runs": decode_json(printed or b"[]", "the records")}
        return parse(_Records, value, "the records", extra="ignore").runs
    except SlmbenchError:
        return []


def compared(shipment: Shipment, made: dict[str, str], merged: dict[str, str], out: str, catalog: Catalog) -> list[str]:
    """What is to be said of a shipment, a sentence; none if what it is held against has no run on the same items.

    A file is held against the merged weights, which ran in a process of their own as it did; these against the adapter,
    whose costs are those of the process that trained it, and so aren't told.
    """
    rows = rows_of(read_runs([Path(out)], catalog).runs)
    is_merged = shipment.kind == MERGED
    other = _row_of_adapter(shipment.adapter, rows) if is_merged else _row_of(merged, rows)
    found = _comparison(other, _row_of(made, rows), tuple(made), out, catalog)
    if found is None:
        return []
    label = "merged, against the adapter," if is_merged else f"{shipment.kind.upper()}, against the merged weights,"
    return [f"{shipment.adapter}: {deployed_sentence(label, found, costs=not is_merged)}"]


def _row_of(made: dict[str, str], rows: Sequence[Who]) -> Who | None:
    ids = {os.path.basename(place) for place in made.values()}
    return next((who for who in rows if ids and ids <= {run.run_id for run in who.runs}), None)


def _row_of_adapter(adapter: str, rows: Sequence[Who]) -> Who | None:
    """The newest row of an adapter in memory, not beside a packed file."""
    theirs = [who for who in rows if who.adapter == adapter and not str(who.quantization).startswith("llama.cpp")]
    return max(theirs, key=lambda who: max(run.created for run in who.runs), default=None)


def _comparison(a: Who | None, b: Who | None, tasks: tuple[str, ...], out: str, catalog: Catalog) -> Comparison | None:
    if a is None or b is None:
        return None
    try:
        return compare_plan(ComparePlan(a=a.name, b=b.name, folders=(out,), tasks=tasks, items=0), catalog)
    except SlmbenchError as error:
        say(f"note: {b.name} is not compared with {a.name}: {error}")
        return None


def flags_of(recipe: Recipe, *, data: str, no_texts: bool, unsafe: bool) -> tuple[str, ...]:
    """What a recipe says of its evaluation, as flags of `slmbench eval`."""
    spec = recipe.spec
    told: list[str] = ["--seed", str(spec.seed)]
    for flag, value in (
        ("--limit", spec.evaluation.limit),
        ("--shots", spec.shots),
        ("--cot", spec.cot),
        ("--samples", spec.evaluation.samples),
        ("--max-tokens", spec.evaluation.max_tokens),
        ("--metrics", ",".join(spec.evaluation.metrics) if spec.evaluation.metrics else None),
    ):
        told += [] if value is None else [flag, str(value)]
    told += [] if data == "auto" else ["--data", data]
    told += ["--perplexity"] * spec.evaluation.perplexity
    return (*told, *["--no-texts"] * no_texts, *["--allow-unsafe-code"] * unsafe)


def own_tasks(recipe: Recipe, folders: Sequence[str], tasks: Sequence[Task]) -> dict[str, tuple[str, ...]]:
    """name of an adapter -> those of the tasks that it is trained on, where it is scored on these alone."""
    if recipe.spec.evaluation.adapters_on != "own":
        return {}
    names = [os.path.basename(os.path.abspath(folder)) for folder in folders]
    return {name: tuple(task.name for task in tasks if task.name in recipe.spec.adapters[name].tasks) for name in names}
