"""`slmbench runs`: what is in the store, whether it is what it claims, and what can go."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from slmbench.catalog import default_catalog
from slmbench.cli._options import gathered
from slmbench.cli._runs_exchange import export_command, import_command
from slmbench.console import say, show, show_json
from slmbench.console.columns import GAP, Cell, print_lines, table_lines, widths_of
from slmbench.paths import shown
from slmbench.visible import visible
from slmbench.workflow.recipes import DEFAULT_OUT

if TYPE_CHECKING:
    from slmbench.leaderboard import Audit
    from slmbench.runs import MetricPart
    from slmbench.values import JsonObject
    from slmbench.workflow.collect import CollectPlan
    from slmbench.workflow.runs import StoredRun

R = TypeVar("R")
_TEXT_CHARS = 2000


def _paths(command: Callable[..., R]) -> Callable[..., R]:
    """Gives a command PATHS: folders that hold runs, by default what `eval` writes to."""
    return click.argument("paths", nargs=-1, type=click.Path(), default=None)(command)


@click.group(
    "runs", help=f"Finished and unfinished runs on disk. PATHS are folders that hold runs. [default: {DEFAULT_OUT}]"
)
def command() -> None:
    pass


command.add_command(import_command)
command.add_command(export_command)


@command.command("list", help="Every run: who was scored on what and how, the first score, and what it takes on disk.")
@_paths
@click.option("--task", help="Runs of this task alone.")
@click.option("--model", help="Runs whose model's or adapter's name has this in it.")
@click.option(
    "--status",
    type=click.Choice(["ok", "unfinished", "paused", "error", "invalidated", "damaged"]),
    help="Only runs of this status.",
)
@click.option("--json", "as_json", is_flag=True, help="An array of runs with their records on stdout.")
def list_command(paths: tuple[str, ...], task: str | None, model: str | None, status: str | None, as_json: bool) -> int:
    from slmbench.workflow.runs import stored_runs, told_size

    runs = [
        run
        for run in stored_runs(paths or (DEFAULT_OUT,))
        if (task is None or run.task == task)
        and (model is None or model.lower() in run.who.lower())
        and (status is None or run.status == status)
    ]
    if as_json:
        show_json([run.as_json() for run in runs])
    elif runs:
        print_lines(_fitting(["run", "who", "task", "how", "score", "when", "size"], [_row(run) for run in runs]))
        say(f"{len(runs)} runs, {told_size(sum(run.bytes for run in runs))}")
    else:
        say("no such run")
    for run in runs:
        if run.fault:
            say(f"error: {visible(run.fault)}")
    return 1 if any(run.fault for run in runs) else 0


def _row(run: StoredRun) -> list[Cell]:
    from slmbench.workflow.runs import told_size

    first, created = run.first, str(run.record.get("created") or "")
    score = (
        Cell(f"{first.name} {_told_short(first, run.record)}")
        if first
        else Cell(run.status, "red" if run.fault else "yellow")
    )
    when = Cell(created[:16].replace("T", " "))
    return [Cell(run.handle), Cell(run.who), Cell(run.task), Cell(run.how), score, when, Cell(told_size(run.bytes))]


def _fitting(header: list[str], rows: list[list[Cell]]) -> list[str]:
    """The table without the columns that a terminal has no room for: what they take, when they were made, how."""
    import shutil

    width = shutil.get_terminal_size((10_000, 24)).columns
    kept = list(range(len(header)))
    for name in ("size", "when", "how"):
        widths = widths_of([header[i] for i in kept], [[row[i] for i in kept] for row in rows])
        if sum(widths) + len(GAP) * (len(widths) - 1) > width:
            kept.remove(header.index(name))
    widths = widths_of([header[i] for i in kept], [[row[i] for i in kept] for row in rows])
    over = sum(widths) + len(GAP) * (len(widths) - 1) - width
    if over > 0:  # Models of one family differ at their ends.
        most = max(16, widths[1] - over)
        rows = [
            [row[0], Cell(f"\u2026{row[1].text[1 - most :]}"), *row[2:]] if len(row[1].text) > most else row
            for row in rows
        ]
    return table_lines([header[i] for i in kept], [[row[i] for i in kept] for row in rows])


def _told_short(metric: MetricPart, record: JsonObject) -> str:
    from slmbench.leaderboard.texts import number, short_interval

    if record.get("stopped") is not None:  # Its interval is of a fixed number of items.
        return number(metric.value)
    return number(metric.value) + short_interval(metric.ci_lo, metric.ci_hi, metric.method)


def _told(metric: MetricPart) -> str:
    if metric.method == "none":
        return f"{metric.value:.3f}, n = {metric.n}"
    return f"{metric.value:.3f} [{metric.ci_lo:.3f}, {metric.ci_hi:.3f}], n = {metric.n}"


@command.command("show", help="One run: all that its record says, or an item's prompt, answer and scores.")
@click.argument("run")
@click.option("--in", "paths", multiple=True, type=click.Path(), help=f"Where to look. [default: {DEFAULT_OUT}]")
@click.option("--item", metavar="ID", help="This item, as samples.jsonl has it.")
@click.option("--json", "as_json", is_flag=True, help="The record, or the item's samples, on stdout.")
def show_command(run: str, paths: tuple[str, ...], item: str | None, as_json: bool) -> None:
    """RUN: a folder, or an id, or the digits at its end, of a run in the folders of --in."""
    import os

    from slmbench.errors import FileError, Problem
    from slmbench.workflow.runs import find_run, samples_of, stored_runs

    if os.path.isdir(run) or os.path.isfile(run):
        (found,) = one if len(one := stored_runs((run,))) == 1 else (find_run(run, one),)
    else:
        found = find_run(run, stored_runs(paths or (DEFAULT_OUT,)))
    if found.fault:
        raise FileError([Problem(shown(found.folder), 0, 0, found.fault)])
    if item is not None:
        samples = samples_of(found, item)
        if as_json:
            show_json(samples)
        else:
            for sample in samples:
                _show_sample(sample)
    elif as_json:
        show_json(found.record)
    else:
        _show_run(found)


def _show_run(run: StoredRun) -> None:
    from slmbench.workflow.runs import facts_of, told_size

    show(f"{visible(run.who)} on {visible(run.task)}: {run.status}, {told_size(run.bytes)}, {shown(run.folder)}")
    if run.status == "ok":
        from slmbench.runs import MetricPart

        metrics = [MetricPart.model_validate(metric, extra="ignore") for metric in run.record["metrics"]]
        if run.record.get("stopped") is not None:  # Their intervals are of a fixed number of items.
            metrics = [one.model_copy(update={"method": "none"}) for one in metrics]
        chances = ["" if one.chance is None else f"chance {one.chance:.3f}" for one in metrics]
        rows = [
            [Cell(one.name), Cell(_told(one)), Cell(one.method), Cell(chance)]
            for one, chance in zip(metrics, chances, strict=True)
        ]
        show()
        print_lines(table_lines(["metric", "value, 95% interval", "method", ""], rows))
    show()
    facts = facts_of(run)
    width = max(len(name) for name, _ in facts)
    for name, told in facts:
        show(f"{name:<{width}}  {visible(told)}")


def _show_sample(sample: JsonObject) -> None:
    head = {key: value for key, value in sample.items() if key not in ("prompt", "output", "target", "references")}
    for name in ("prompt", "output", "target"):
        if sample.get(name) is not None:
            text = str(sample[name])
            more = f" ... and {len(text) - _TEXT_CHARS} characters more" if len(text) > _TEXT_CHARS else ""
            show(f"{name}:")
            for line in (text[:_TEXT_CHARS] + more).split("\n"):
                show(f"  {visible(line)}")
    for name, value in head.items():
        if value is not None:
            show(f"{name}: {visible(str(value))}")


@command.command("verify", help="Make again all that runs say: every digest, every value, every item's score.")
@_paths
@click.option("--json", "as_json", is_flag=True, help="An array of {run_id, folder, status, ok, problems} on stdout.")
def verify_command(paths: tuple[str, ...], as_json: bool) -> int:
    from slmbench.workflow.runs import verify_runs

    audits = verify_runs(paths or (DEFAULT_OUT,), default_catalog())
    if as_json:
        show_json([_audit_json(one) for one in audits])
    else:
        for one in audits:
            _show_audit(one)
    bad = sum(not one.ok for one in audits)
    sound = sum(one.ok and one.status == "ok" for one in audits)
    samples = sum(one.n_samples for one in audits)
    rest = len(audits) - bad - sound
    told = f"{sound} of {len(audits)} runs are what they claim; {samples:,} samples were read"
    say(told + (f"; {bad} at fault" if bad else "") + (f"; {rest} without a result" if rest else ""))
    return 1 if bad else 0


def _show_audit(one: Audit) -> None:
    verdict = "fault" if one.problems else one.status
    show(f"{verdict:<11}  {visible(one.run_id)}", keep=verdict)
    for problem in one.problems:
        show(f"  {visible(str(problem))}")
    for note in one.notes:
        show(f"  note: {visible(note)}")


def _audit_json(one: Audit) -> JsonObject:
    problems = [{"path": p.path, "line": p.line, "message": p.message} for p in one.problems]
    return {
        "run_id": one.run_id,
        "folder": str(one.folder),
        "status": one.status,
        "ok": one.ok,
        "problems": problems,
        "notes": list(one.notes),
        "n_samples": one.n_samples,
    }


@command.command("gc", help="Tell what can go: leftovers, and what the flags name. Nothing goes without --yes.")
@_paths
@click.option("--unfinished", is_flag=True, help="Runs that were not finished, or failed, with their answers so far.")
@click.option("--invalidated", is_flag=True, help="Runs that somebody has marked as invalidated.")
@click.option("--superseded", is_flag=True, help="Finished runs that a newer one of the same kind hides; copies.")
@click.option("--older-than", type=click.FloatRange(min=0), default=0.0, metavar="DAYS", help="Only runs this old.")
@click.option("--yes", is_flag=True, help="Remove it.")
@click.option("--json", "as_json", is_flag=True, help="An array of {path, why, bytes, removed} on stdout.")
@gathered(plan="slmbench.workflow.collect:CollectPlan")
def gc_command(plan: CollectPlan, as_json: bool) -> int:
    from slmbench.workflow.collect import collect
    from slmbench.workflow.runs import told_size

    found, errors = collect(plan, DEFAULT_OUT)
    if as_json:
        show_json([{"path": str(o.path), "why": o.why, "bytes": o.bytes, "removed": plan.yes} for o in found])
    else:
        rows = [[Cell(shown(one.path)), Cell(told_size(one.bytes)), Cell(one.why)] for one in found]
        if rows:
            print_lines(table_lines(["path", "size", "why"], rows))
    size = told_size(sum(one.bytes for one in found))
    if not found:
        say("nothing was removed" if errors else "nothing can go")
    elif plan.yes:
        say(f"removed {len(found)} of these: {size}")
    else:
        say(f"{len(found)} of these can go: {size}; nothing was removed, --yes does it")
    for error in errors:
        say(f"error: {visible(str(error))}")
    return 1 if errors else 0
