"""`slmbench check`: does a task do what it declares? Offline, in seconds, all problems at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from slmbench.catalog import default_catalog
from slmbench.cli._work import quiet_libraries, say

if TYPE_CHECKING:
    from slmbench.checks import CheckReport


@click.command("check", help="Test tasks, by name or folder: schema, hooks, rendering, gold answers, leaks.")
@click.argument("names", nargs=-1, metavar="[NAME_OR_PATH...]")
@click.option("--all", "every", is_flag=True, help="Every task that there is.")
@click.option("--json", "as_json", is_flag=True, help="An array of {task, ok, problems} on stdout.")
@click.option("--trust", is_flag=True, help="Run the plugin.py of folders given by path.")
@click.option("--data", type=click.Choice(["auto", "samples"]), default="auto", show_default=True)
@click.pass_context
def command(ctx: click.Context, names: tuple[str, ...], every: bool, as_json: bool, trust: bool, data: str) -> None:
    from slmbench.errors import UsageError

    catalog = default_catalog()
    chosen = list(dict.fromkeys((*names, *(catalog.files("tasks") if every else ()))))
    if not chosen:
        raise UsageError("nothing to check; name tasks or their folders, or give --all")
    from slmbench.checks import check_task, find_task

    # All names are looked up before any plugin runs: a refusal must not come half-way.
    for name in chosen:
        find_task(name, catalog, trust=trust)
    quiet_libraries()
    reports = [check_task(name, catalog, trust=trust, data=data) for name in chosen]
    if as_json:
        import json

        click.echo(json.dumps([report.as_json() for report in reports], indent=1))
    else:
        click.echo("\n".join(_table(reports)))
        for report in reports:
            for problem in report.problems:
                click.echo(str(problem))
    for report in reports:
        for notice in report.notices:
            say(f"note: {report.task}: {notice}")
    if not all(report.ok for report in reports):
        ctx.exit(2)


def _table(reports: list[CheckReport]) -> list[str]:
    rows: list[tuple[str, ...]] = [("task", "rows", "source", "formats", "result")]
    for report in reports:
        n = len(report.problems)
        verdict = "ok" if report.ok else f"{n} problem{'' if n == 1 else 's'}"
        rows.append((report.task, str(report.rows), report.source or "-", ", ".join(report.formats) or "-", verdict))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = []
    for task, checked, *rest in rows:
        cells = [task.ljust(widths[0]), checked.rjust(widths[1])]
        cells += [cell.ljust(width) for cell, width in zip(rest, widths[2:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines
