"""`slmbench merge`: the merges of a recipe, made of adapters and models that are there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from attrs import evolve

from slmbench.catalog import default_catalog
from slmbench.cli._options import data_option, gathered, out_option
from slmbench.console import show_json
from slmbench.console.columns import Cell, print_lines, table_lines
from slmbench.paths import shown
from slmbench.workflow.quiet import quiet_libraries

if TYPE_CHECKING:
    from slmbench.workflow.merge import MadeMerge, MergeAsked, ReadyMerges

HEADER = ("merge", "method", "of", "weights", "parameters", "result", "rank", "size", "found by")


@click.command("merge", help="Merge the inputs of a RECIPE of kind merge (a name, or a YAML file).")
@click.argument("recipe")
@click.option("--only", multiple=True, metavar="NAME", help="Only this merge of the recipe; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Show what would be merged and searched; nothing is written.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="For example --set search.by=score; checked."
)
@click.option(
    "--race",
    is_flag=True,
    help="Candidates of a search leave by e-values: the best stays with 95%. Searches by score (search.by=score).",
)
@click.option("--twin", is_flag=True, is_eager=True, help="Merges of adapters of the model's tiny random copy.")
@data_option
@out_option
@click.option("--json", "as_json", is_flag=True, help="An array of merge records on stdout, and nothing else.")
@gathered(options="slmbench.workflow.recipes:RecipeOptions", asked="slmbench.workflow.merge:MergeAsked")
def command(asked: MergeAsked, race: bool, dry_run: bool, as_json: bool) -> None:
    from slmbench.workflow.merge import make_merges, ready_merges

    if race:
        raced = ("search.by=score", "search.race=true", *asked.options.overrides)
        asked = evolve(asked, options=asked.options._replace(overrides=raced))
    quiet_libraries()
    catalog = default_catalog()
    ready = ready_merges(asked, catalog)
    if dry_run:
        rows = planned(ready)
        show_json(rows) if as_json else print_planned(rows)
        return
    made = make_merges(ready, catalog)
    if as_json:
        show_json([one.result.record.model_dump(mode="json", by_alias=True) | {"folder": one.folder} for one in made])
    else:
        print_made(made)


def planned(ready: ReadyMerges) -> list[dict[str, object]]:
    """What would be made: a row for each result, with what would be searched for it."""
    found: list[dict[str, object]] = []
    for merge in ready.merges:
        spec, candidates = ready.recipe.spec.merges[merge], ready.recipe.candidates(merge)
        settled = ready.recipe.settled(merge, candidates[0])
        for name, seed in ready.recipe.result_names(merge).items():
            plan = ready.plan(merge, settled, name, seed)
            searched = len(candidates) if len(candidates) > 1 else len(plan.inputs) if spec.greedy else 0
            found.append(plan.as_json() | {"folder": plan.folder, "candidates": searched})
    return found


def print_planned(rows: Sequence[dict[str, object]]) -> None:
    """A table of what would be made."""
    header = ("merge", "method", "of", "result", "candidates")
    cells = []
    for row in rows:
        inputs = ", ".join(one["name"] for one in row["inputs"])  # type: ignore[attr-defined]
        values = (row["name"], row["method"], inputs, shown(str(row["folder"])), row["candidates"] or "-")
        cells.append([Cell(str(value)) for value in values])
    print_lines(table_lines(header, cells, right=("candidates",)))


def print_made(made: Sequence[MadeMerge]) -> None:
    """A table of what was made, and where it is."""
    print_lines(table_lines(HEADER, [_row(one) for one in made], right=("rank", "size")))


def _row(one: MadeMerge) -> list[Cell]:
    record = one.result.record
    size = sum(file.bytes for file in record.files.values())
    weights = [said for each in record.inputs if (said := _value(each.weight)) != "1"]
    parameters = ", ".join(f"{name}={_value(value)}" for name, value in record.parameters.items())
    search = record.search or {}
    found_by = ""
    if "rounds" in search:
        rounds = search["rounds"]
        found_by = f"{len(search['candidates'])} candidates, {rounds[-1]['rows']} rows, {search['by']}"
    elif "tried" in search:
        found_by = f"greedily, {search['by']}"
    return [
        Cell(record.name),
        Cell(record.method),
        Cell(", ".join(each.name for each in record.inputs)),
        Cell(", ".join(weights) or "-"),
        Cell(parameters or "-"),
        Cell(shown(one.folder)),
        Cell("-" if record.rank is None else str(record.rank)),
        Cell(f"{size / 1e6:.1f} MB"),
        Cell(found_by or "-"),
    ]


def _value(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_value(one)}" for key, one in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
