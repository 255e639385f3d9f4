"""`slmbench check`: does a task do what it declares? Offline, in seconds, all problems at once."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import click
from attrs import evolve

from slmbench.catalog import default_catalog
from slmbench.cli._options import data_option
from slmbench.console import bar, phase, say, show, show_json
from slmbench.console.columns import GAP, Cell, print_lines, shortened, table_lines, widths_of
from slmbench.visible import visible
from slmbench.workflow.quiet import quiet_libraries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slmbench.checks import CheckReport
    from slmbench.lengths import Ruler

WIDTH = 120
HEADER = ("task", "kind", "rows", "from", "formats", "metrics", "p50", "p99", "max", "answer", "licence", "result")
NUMBERS = ("rows", "formats", "metrics", "p50", "p99", "max", "answer")
LICENSE_CHARS = 12
RECIPE_KINDS = ("recipe", "merge")


@click.command(
    "check",
    help="Test tasks, by name, folder or file: schema, hooks, formats, gold and wrong answers, leaks. Recipes, too.",
)
@click.argument("names", nargs=-1, metavar="[NAME_OR_PATH...]")
@click.option("--all", "every", is_flag=True, help="All tasks, and all plugins.")
@click.option(
    "--model",
    default="nano",
    show_default=True,
    help="The model whose tokens are counted; if it is given, those of answers too.",
)
@click.option("--json", "as_json", is_flag=True, help="An array of {task, ok, problems, ...} on stdout.")
@click.option("--trust", is_flag=True, help="Run the plugin.py of folders given by path.")
@data_option
@click.pass_context
def command(
    ctx: click.Context, names: tuple[str, ...], every: bool, model: str, as_json: bool, trust: bool, data: str
) -> None:
    from slmbench.errors import UsageError, pulled_by

    catalog = default_catalog()
    chosen = list(dict.fromkeys((*names, *(catalog.files("tasks") if every else ()))))
    if not chosen:
        raise UsageError("nothing to check; name tasks or their folders, or give --all")
    from slmbench.checks import check_plugins, check_task, find_task
    from slmbench.lengths import open_ruler
    from slmbench.workflow.check_recipe import check_recipe, is_recipe

    recipes = [name for name in chosen if is_recipe(name, catalog)]
    chosen = [name for name in chosen if name not in recipes]
    # All names are looked up before any plugin runs: a refusal must not come half-way. Files of one task are one.
    folders: dict[str, str] = {}
    for name in chosen:
        folders.setdefault(os.path.realpath(find_task(name, catalog, trust=trust)), name)
    chosen = list(folders.values())
    quiet_libraries()
    started = time.monotonic()
    named = ctx.get_parameter_source("model") is not click.core.ParameterSource.DEFAULT
    with phase(f"tokenizer of {model}"):
        ruler = evolve(open_ruler(model, catalog), for_answers=named)
    reports = []
    with bar("check", len(chosen), "tasks") as done:
        for name in chosen:
            reports.append(check_task(name, catalog, trust=trust, data=data, ruler=ruler))
            done.advance()
    reports += [check_recipe(name, catalog) for name in recipes]
    reports += check_plugins(catalog) if every else []
    if as_json:
        show_json([report.as_json() for report in reports])
    else:
        _print(reports, ruler, time.monotonic() - started)
    for notice, tasks in _by_notice(reports).items():
        say(f"note: {', '.join(tasks)}: {notice}")
    to_pull = list(dict.fromkeys(report.to_pull for report in reports if report.to_pull))
    if to_pull:
        say(f"to have all rows here: {pulled_by(to_pull)}")
    if not all(report.ok for report in reports):
        ctx.exit(2)


def _print(reports: Sequence[CheckReport], ruler: Ruler, seconds: float) -> None:
    context = f", which reads {ruler.context_tokens:,}; > is longer than that" if ruler.context_tokens else ""
    show(f"p50, p99, max of prompts and p99 of answers: in tokens of {ruler.model}{context}.")
    print_lines(_table(reports))
    if len(reports) == 1:
        print_lines(_details(reports[0]))
    for report in reports:
        for problem in report.problems:
            first, *rest = str(problem).split("\n")
            show(first)
            for line in rest:  # Not at the margin: a name with a line break in it would begin a line of its own.
                show(line if line.startswith(" ") else f"  {line}")
    show(_summary(reports, seconds))


def _table(reports: Sequence[CheckReport]) -> list[str]:
    rows = [_row(report) for report in reports]
    others = [i for i, name in enumerate(HEADER) if name != "licence"]
    taken = sum(widths_of(HEADER, rows)[i] for i in others)
    room = max(LICENSE_CHARS, WIDTH - taken - len(GAP) * len(others))
    at = HEADER.index("licence")
    for row in rows:
        row[at] = Cell(shortened(row[at].text, room), row[at].color)
    return table_lines(HEADER, rows, right=NUMBERS)


def _row(report: CheckReport) -> list[Cell]:
    lengths = report.lengths
    numbers = [Cell("-")] * 4
    if lengths is not None:
        over = lengths.over > 0
        numbers = [Cell(str(n)) for n in (lengths.prompt_p50, lengths.prompt_p99, lengths.prompt_max)]
        numbers[2] = Cell(f">{lengths.prompt_max}", "yellow") if over else numbers[2]
        numbers.append(Cell(str(lengths.answer_p99)))
    n = len(report.problems)
    result = Cell(f"{n} problem{'' if n == 1 else 's'}", "red")
    if report.ok:
        result = Cell("ok *", "yellow") if report.notices else Cell("ok", "green")
    return [
        Cell(shortened(visible(report.task), 40)),
        Cell(report.kind or "-"),
        Cell(str(report.rows)),
        Cell(report.source or "-"),
        _share(report.formats),
        _share(report.metrics),
        *numbers,
        Cell(visible(report.license))
        if report.license
        else Cell("none", "red")
        if report.kind and report.kind not in RECIPE_KINDS
        else Cell("-"),
        result,
    ]


def _share(verdicts: Mapping[str, str]) -> Cell:
    """`2/3`: how many of them are sound."""
    if not verdicts:
        return Cell("-")
    ok = sum(verdict == "ok" for verdict in verdicts.values())
    color = "red" if "failed" in verdicts.values() else "yellow" if ok < len(verdicts) else None
    return Cell(f"{ok}/{len(verdicts)}", color)


def _details(report: CheckReport) -> list[str]:
    """What one task's row has no room for."""
    lines = []
    if report.splits:
        lines.append("rows      " + ", ".join(f"{n:,} {name}" for name, n in report.splits.items()))
    for title, verdicts in (("formats", report.formats), ("metrics", report.metrics)):
        if verdicts:
            said = (name if verdict == "ok" else f"{name} ({verdict})" for name, verdict in verdicts.items())
            lines.append(f"{title:<10}" + ", ".join(said))
    lengths = report.lengths
    if lengths is not None and lengths.over:
        lines.append(f"prompts   {lengths.over:,} are longer than the {lengths.context:,} tokens of {lengths.model}")
    if len(report.license) > LICENSE_CHARS:
        lines.append(f"licence   {visible(report.license)}")
    return lines


def _summary(reports: Sequence[CheckReport], seconds: float) -> str:
    bad = sum(not report.ok for report in reports)
    noted = sum(report.ok and bool(report.notices) for report in reports)
    said = [f"{len(reports) - bad} ok" + (f" ({noted} with notes, *)" if noted else "")]
    if bad:
        n = sum(len(report.problems) for report in reports)
        said.append(f"{bad} with {n} problem{'' if n == 1 else 's'}")
    recipes = sum(report.kind in RECIPE_KINDS for report in reports)
    counts = {"task": len(reports) - recipes, "recipe": recipes}
    many = " and ".join(f"{n} {what}{'' if n == 1 else 's'}" for what, n in counts.items() if n)
    rows = sum(report.rows for report in reports)
    return f"{many}, {rows:,} rows in {seconds:.1f} s: {', '.join(said)}"


def _by_notice(reports: Sequence[CheckReport]) -> dict[str, list[str]]:
    """notice -> the tasks that have it."""
    tasks: dict[str, list[str]] = {}
    for report in reports:
        for notice in report.notices:
            tasks.setdefault(notice, []).append(report.task)
    return tasks
