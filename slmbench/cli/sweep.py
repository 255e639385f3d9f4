"""`slmbench sweep`: a recipe over several settings. Run again, it goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from attrs import evolve

from slmbench.catalog import default_catalog
from slmbench.cli._options import recipe_options
from slmbench.console import say, show, show_json
from slmbench.console.columns import Cell, column_blocks, print_lines, table_lines, widths_of
from slmbench.errors import SlmbenchError
from slmbench.workflow.recipes import RecipeOptions, out_folder

if TYPE_CHECKING:
    from slmbench.sweeps import Point, Sweep

DEFAULT_SWEEP_OUT = "slmbench-sweep"


@click.command("sweep", help="Train and evaluate a RECIPE over several settings: quality against cost.")
@click.argument("recipe_name", metavar="RECIPE")
@click.option(
    "--over",
    multiple=True,
    metavar="KEY=V1,V2",
    help="A setting and its values, such as lora.rank=8,16; all combinations. In addition to, or in place "
    "of, what the recipe sweeps.",
)
@click.option("--seeds", metavar="N|A,B", help="How often to run each point (3: seeds 0, 1, 2), or with which seeds.")
@click.option("--adapter", "only", multiple=True, help="Only this adapter of the recipe; may be repeated.")
@click.option("--metric", "metrics", multiple=True, help="A metric, or task/metric. [default: each task's first]")
@recipe_options
@click.option(
    "--out", type=click.Path(file_okay=False), help=f"{DEFAULT_SWEEP_OUT}/RECIPE, or slmbench-twin/RECIPE with --twin."
)
@click.option("--allow-unsafe-code", is_flag=True, help="Run code that a model wrote even if no sandbox works here.")
@click.option(
    "--no-texts", is_flag=True, help="Show digests on pages made from these runs in place of prompts and outputs."
)
@click.option("--dry-run", is_flag=True, help="Show the points, and stop.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout, and nothing else.")
def command(
    recipe_name: str,
    over: tuple[str, ...],
    seeds: str | None,
    only: tuple[str, ...],
    metrics: tuple[str, ...],
    options: RecipeOptions,
    out: str | None,
    allow_unsafe_code: bool,
    no_texts: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    from slmbench.sweeps import sweep_json, write_sweep
    from slmbench.workflow.run import RunPlan
    from slmbench.workflow.sweep import SweepPlan, ready_sweep
    from slmbench.workflow.sweep import sweep as run_all

    catalog = default_catalog()
    run = RunPlan(
        recipe=recipe_name,
        out="",
        options=options,
        only=only,
        allow_unsafe_code=allow_unsafe_code,
        no_texts=no_texts,
    )
    ready = ready_sweep(SweepPlan(run=run, over=over, seeds=seeds, metrics=metrics), catalog)
    points = ready.points
    if dry_run:
        _print_points(points, as_json)
        return 0
    folder = os.path.join(out_folder(out, DEFAULT_SWEEP_OUT, options.twin), *([] if out else [ready.recipe.name]))
    ready = evolve(ready, plan=evolve(ready.plan, run=evolve(run, out=folder)))
    sweep = run_all(ready, catalog)
    paths = write_sweep(sweep, os.path.join(folder, "sweep"))
    if as_json:
        show_json(sweep_json(sweep))
    elif sweep.rows:
        _print_sweep(sweep)
    for notice in sweep.notices:
        say(f"note: {notice}")
    say(f"page: {paths[-1]}")
    for name, reason in sweep.failures.items():
        say(f"failed: {name}: {reason}")
    if sweep.failures:
        raise SlmbenchError(
            f"{len(sweep.failures)} of {len(points)} points have no result; the same command tries them again"
        )
    return 0


def _print_points(points: Sequence[Point], as_json: bool) -> None:
    if as_json:
        made = [{"name": point.name, "changed": dict(point.changed)} for point in points]
        show_json(made)
        return
    for point in points:
        show(f"{point.name}: {', '.join(f'{key}={value}' for key, value in point.changed.items())}")


def _print_sweep(sweep: Sweep) -> None:
    import shutil
    import textwrap

    from slmbench.sweeps import OF_ITEMS, table_of

    head, rows, legend = table_of(sweep)
    cells = [[Cell(text, "green" if text.endswith(" *") else None) for text in row] for row in rows]
    # A sign hangs over the column's end, so that the numbers stand under each other.
    for i in range(len(head)):
        signs = [row[i][len(row[i].rstrip(f"{OF_ITEMS} *")) :] for row in rows]
        widest = max(map(len, signs), default=0)
        for row, line, sign in zip(rows, cells, signs, strict=True):
            line[i] = Cell(row[i] + " " * (widest - len(sign)), line[i].color)
    width = shutil.get_terminal_size((100, 24)).columns
    for block in column_blocks(widths_of(head, cells), width, kept=2):
        print_lines(
            [*table_lines([head[i] for i in block], [[row[i] for i in block] for row in cells], right=head[2:]), ""]
        )
    print_lines(textwrap.wrap(legend, min(100, width)))
