"""`slmbench data`: mirrors for machines without a network, exports of prepared rows, and their cost in tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

from slmbench.catalog import Catalog, default_catalog
from slmbench.console import say, show, show_json
from slmbench.paths import mirror_dir, shown
from slmbench.workflow.quiet import quiet_libraries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from slmbench.console.columns import Cell
    from slmbench.task import Task
    from slmbench.tokens import TokenCosts

R = TypeVar("R")
DATA = click.Choice(["auto", "samples"])
COT = click.Choice(["off", "zero", "few"])


@click.group("data", help="Mirrors of data sets, exports of prepared ones, and what records cost in tokens.")
def command() -> None:
    pass


def _needs_options(command: Callable[..., R]) -> Callable[..., R]:
    """--suite, --recipe, --model: what is needed, by what it is needed for."""
    for option in (
        click.option("--model", "models", multiple=True, metavar="MODEL", help="A model: a name or a hub id."),
        click.option("--recipe", "recipes", multiple=True, metavar="RECIPE", help="All that `run RECIPE` needs."),
        click.option("--suite", "suites", multiple=True, metavar="SUITE", help="All that its tasks and metrics need."),
    ):
        command = option(command)
    return command


@command.command(
    "pull", help="Gather data sets NAME, and what suites, recipes and models need, in a mirror, with checksums."
)
@click.argument("names", nargs=-1, metavar="[NAME...]")
@_needs_options
@click.option("--to", required=True, type=click.Path(file_okay=False), help="The mirror's folder.")
@click.option("--json", "as_json", is_flag=True, help="An array of the files on stdout, and nothing else.")
def pull_command(
    names: tuple[str, ...],
    suites: tuple[str, ...],
    recipes: tuple[str, ...],
    models: tuple[str, ...],
    to: str,
    as_json: bool,
) -> None:
    import os

    from slmbench.errors import UsageError
    from slmbench.mirror import pull
    from slmbench.workflow.gather import gather, needs_of

    quiet_libraries()
    catalog = default_catalog()
    if suites or recipes or models:
        files = gather(needs_of(catalog, datasets=names, suites=suites, recipes=recipes, models=models), to)
    elif names:
        files = pull(names, to, catalog)
    else:
        raise UsageError("nothing named; name data sets, or give --suite, --recipe or --model")
    if as_json:
        show_json(files)
    else:
        for path in files:
            show(shown(path))
    carried = os.path.basename(os.path.abspath(to))
    say(f"carry the folder over, then: export SLMBENCH_DATA={carried} HF_HUB_OFFLINE=1; slmbench data verify")


@command.command(
    "verify",
    help="Check a mirror: the folder FOLDER, or that of SLMBENCH_DATA; all of it, or data sets NAME. With --suite, "
    "--recipe or --model, what they need has to be there.",
)
@click.argument("folder", required=False, type=click.Path())
@click.argument("names", nargs=-1, metavar="[NAME...]")
@_needs_options
@click.option("--json", "as_json", is_flag=True, help="One object on stdout, and nothing else.")
@click.pass_context
def verify_command(
    ctx: click.Context,
    folder: str | None,
    names: tuple[str, ...],
    suites: tuple[str, ...],
    recipes: tuple[str, ...],
    models: tuple[str, ...],
    as_json: bool,
) -> None:
    from slmbench.errors import UsageError
    from slmbench.workflow.gather import needs_of, verify_mirror

    where = folder or mirror_dir()
    if where is None:
        raise UsageError("no mirror named; give its folder, or set SLMBENCH_DATA to it")
    catalog = default_catalog()
    report = verify_mirror(where, catalog, names, needs_of(catalog, suites=suites, recipes=recipes, models=models))
    if as_json:
        problems = [{"path": one.path, "line": one.line, "message": one.message} for one in report.problems]
        value = {"ok": report.ok, "files": report.files, "problems": problems, "notices": list(report.notices)}
        show_json(value)
    else:
        verdict = "ok" if report.ok else f"{len(report.problems)} problem{'s' if len(report.problems) > 1 else ''}"
        show(f"{shown(where)}: {report.files} file{'' if report.files == 1 else 's'}, {verdict}")
        for problem in report.problems:
            show(str(problem))
    for notice in report.notices:
        say(f"note: {notice}")
    if not report.ok:
        ctx.exit(2)


@command.command("export", help="Write a task's prepared rows to a file; of a suite or several tasks, one file each.")
@click.argument("names", nargs=-1, metavar="[TASK...]")
@click.option("--suite", help="All tasks of a suite; then --out is a folder.")
@click.option(
    "--format",
    "form",
    required=True,
    type=click.Choice(["toon", "chat", "jsonl"]),
    help="One Toon table, chat messages as trl takes them, or a JSON record a line.",
)
@click.option("--split", default="train", show_default=True, help="Which rows.")
@click.option("--out", required=True, type=click.Path(), help="The file of one task, the folder of several.")
@click.option("--cot", type=COT, help="Chain of thought. [default: as declared]")
@click.option("--limit", type=click.IntRange(1), help="The first N rows.")
@click.option("--data", type=DATA, default="auto", show_default=True, help="samples: the task's golden rows.")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
def export_command(
    names: tuple[str, ...],
    suite: str | None,
    form: str,
    split: str,
    out: str,
    cot: str | None,
    limit: int | None,
    data: str,
    force: bool,
) -> None:
    import os

    from slmbench.errors import UsageError
    from slmbench.exports import ending_of, export_task, refuse_path, write_export

    quiet_libraries()
    tasks = _tasks(names, suite, default_catalog(), data, cot, evaluated=False)
    if suite is None and len(tasks) == 1:
        paths = [out]
    elif os.path.isfile(out):
        raise UsageError(f"{shown(out)} is a file; several tasks are written into a folder")
    else:
        paths = [os.path.join(out, task.name + ending_of(form)) for task in tasks]
    for path in paths:
        refuse_path(path, form, force=force)
    # All are made before the first is written: a data set that isn't available leaves no half of a suite behind.
    exports = [export_task(task, form, split, limit) for task in tasks]
    for export, path in zip(exports, paths, strict=True):
        write_export(export, path, force=force)
        source = "golden rows" if export.source == "samples" else export.source
        say(f"{export.task}: {export.rows:,} rows of split {split!r} ({source}), {len(export.data):,} bytes")
        show(shown(path))


@command.command(
    "tokens", help="What a record costs in tokens: plain, chat, compact JSON, Toon; one, and many at once."
)
@click.argument("names", nargs=-1, metavar="[TASK...]")
@click.option("--suite", help="All tasks of a suite.")
@click.option(
    "--model", default="nano", show_default=True, help="The model whose tokenizer counts: a name, a folder, a hub id."
)
@click.option("--n", default=20, show_default=True, type=click.IntRange(1, 10_000), help="Rows of each task.")
@click.option("--cot", type=COT, help="Chain of thought. [default: as declared]")
@click.option("--data", type=DATA, default="auto", show_default=True, help="samples: the task's golden rows.")
@click.option("--json", "as_json", is_flag=True, help="An array of objects on stdout, and nothing else.")
def tokens_command(
    names: tuple[str, ...], suite: str | None, model: str, n: int, cot: str | None, data: str, as_json: bool
) -> None:
    from slmbench.lengths import open_ruler
    from slmbench.tokens import token_costs

    quiet_libraries()
    catalog = default_catalog()
    tasks = _tasks(names, suite, catalog, data, cot)
    ruler = open_ruler(model, catalog)
    costs = [token_costs(task, ruler, n) for task in tasks]
    if as_json:
        show_json([one.as_json() for one in costs])
        return
    print_costs(costs, ruler.model, n)


def print_costs(costs: Sequence[TokenCosts], model: str, n: int) -> None:
    """The table of `data tokens`, and below it where Toon costs more."""
    from slmbench.console.columns import Cell, print_lines, table_lines

    declared = tuple(dict.fromkeys(name for one in costs for name in one.declared))
    header = ("task", "rows", "from", "plain", "chat", *declared, "json", "toon", "v json", "v plain")
    header += ("array", "table", "v array")
    rows = [
        [
            Cell(one.task),
            Cell(str(one.rows)),
            Cell(one.source),
            *(Cell("-" if x is None else f"{x:.1f}") for x in (one.plain, one.chat)),
            *(Cell(f"{one.declared[name]:.1f}" if name in one.declared else "-") for name in declared),
            *(Cell(f"{x:.1f}") for x in (one.json, one.toon)),
            *(_percent(x) for x in (one.toon_against_json, one.toon_against_plain)),
            *(Cell(f"{x:.1f}") for x in (one.json_array, one.toon_table)),
            _percent(one.table_against_array),
        ]
        for one in costs
    ]
    show(f"Mean tokens a record, prompt and answer without shots, in the tokenizer of {model}.")
    alone = ", ".join(header[3 : 7 + len(declared)])
    show(f"{alone}: one record alone. array, table: its share in JSON and Toon of up to {n} at once.")
    print_lines(table_lines(header, rows, right=header[1:2] + header[3:]))
    comparisons = (
        ("JSON, a record alone", lambda one: one.toon_against_json),
        ("JSON, many at once", lambda one: one.table_against_array),
        ("plain text, a record alone", lambda one: one.toon_against_plain),
    )
    difference: Callable[[TokenCosts], float]
    for what, difference in comparisons:
        dearer = sorted((one for one in costs if difference(one) >= 0.005), key=difference, reverse=True)
        if dearer:
            said = ", ".join(f"{one.task} {difference(one):.0%}" for one in dearer[:8])
            more = f" and {len(dearer) - 8} more" if len(dearer) > 8 else ""
            show(f"toon costs more than {what}: {said}{more}")
        else:
            show(f"toon never costs more than {what}")


def _percent(share: float) -> Cell:
    from slmbench.console.columns import Cell

    return Cell(f"{share:+.0%}".replace("-0%", "0%").replace("+0%", "0%"), "green" if share < 0 else "yellow")


def _tasks(
    names: tuple[str, ...], suite: str | None, catalog: Catalog, data: str, cot: str | None, *, evaluated: bool = True
) -> list[Task]:
    """The named tasks, and on stderr what there is to know of them. evaluated: it is about their evaluated splits."""
    from slmbench.errors import UsageError
    from slmbench.recipe import suite_tasks
    from slmbench.task import Settings, load_task

    wanted = list(dict.fromkeys((*names, *(suite_tasks(catalog, suite) if suite else ()))))
    if not wanted:
        raise UsageError("no task named; name tasks, or a suite with --suite")
    loaded = [load_task(name, catalog, data=data) for name in wanted]
    tasks, notices = Settings(cot=cot).of(loaded)
    # Without settings nothing is left to tell but which splits stand in for the evaluated ones.
    beside = [] if evaluated else Settings().of(loaded)[1]
    for notice in notices:
        if notice not in beside:
            say(notice)
    return tasks
