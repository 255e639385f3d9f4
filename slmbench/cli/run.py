"""`slmbench run`: a whole recipe, from rows to leaderboard. Run again, it goes on where it was."""

from __future__ import annotations

import os

import click

from slmbench.catalog import Catalog, default_catalog
from slmbench.cli._recipes import (
    bertscore_by_twin,
    chosen_recipe,
    data_mode,
    out_folder,
    recipe_options,
    refuse_to_replace,
    say_golden,
    with_few_samples,
)
from slmbench.cli._work import DEFAULT_OUT, evaluate_all, quiet_libraries, say, show_leaderboard, train_recipe


@click.command("run", help="Train a RECIPE's adapters, evaluate base and adapters, write the leaderboard.")
@click.argument("recipe_name", metavar="RECIPE")
@recipe_options
@click.option("--data", type=click.Choice(["auto", "samples"]), default="auto", show_default=True)
@click.option(
    "--resume/--no-resume", default=True, show_default=True, help="Go on from checkpoints of a training cut off."
)
@click.option("--out", type=click.Path(file_okay=False), help=f"{DEFAULT_OUT}, or slmbench-twin with --twin.")
@click.option(
    "--allow-unsafe-code", is_flag=True, help="Run code that a model wrote even where no sandbox can hold it."
)
@click.option("--json", "as_json", is_flag=True, help="The leaderboard as JSON on stdout, and nothing else there.")
def command(
    recipe_name: str,
    overrides: tuple[str, ...],
    variant: str | None,
    twin: bool,
    on_contamination: str | None,
    memory_limit_gb: float | None,
    data: str,
    resume: bool,
    out: str | None,
    allow_unsafe_code: bool,
    as_json: bool,
) -> None:
    run_recipe(
        recipe_name,
        overrides,
        default_catalog(),
        variant=variant,
        twin=twin,
        on_contamination=on_contamination,
        memory_limit_gb=memory_limit_gb,
        data=data,
        resume=resume,
        out=out_folder(out, DEFAULT_OUT, twin),
        as_json=as_json,
        allow_unsafe_code=allow_unsafe_code,
    )


def run_recipe(
    recipe_name: str,
    overrides: tuple[str, ...],
    catalog: Catalog,
    *,
    data: str,
    out: str,
    as_json: bool,
    variant: str | None = None,
    twin: bool = False,
    on_contamination: str | None = None,
    memory_limit_gb: float | None = None,
    resume: bool = True,
    allow_unsafe_code: bool = False,
) -> str:
    """Everything a recipe says; returns the path of the leaderboard's page."""
    from slmbench.evaluation import refuse_unscorable
    from slmbench.task import Settings, load_task

    recipe = chosen_recipe(
        recipe_name,
        catalog,
        overrides,
        variant=variant,
        twin=twin,
        on_contamination=on_contamination,
        memory_limit_gb=memory_limit_gb,
    )
    spec, data = recipe.spec, data_mode(data, twin)
    # Loaded before anything is trained: a broken task must not come to light after an hour of training.
    names = recipe.evaluation_tasks(catalog)
    with bertscore_by_twin(spec.model, catalog, twin):
        declared = [load_task(name, catalog, data=data) for name in names]
    # The recipe's mode is that of its training; tasks that declare no chain of thought are evaluated as they are.
    cot = spec.cot if any(task.spec.cot for task in declared) else None
    metrics = tuple(spec.evaluation.metrics) if spec.evaluation.metrics else None
    settings = Settings(spec.shots, cot, spec.evaluation.samples, metrics, spec.evaluation.max_tokens)
    tasks, notices = settings.of(with_few_samples(declared) if twin else declared)
    for notice in notices:
        say(f"note: {notice}")
    if twin:
        refuse_to_replace(recipe, list(spec.adapters), out)
        say_golden(recipe, tasks, catalog)
    for task in tasks:
        task.examples(task.spec.split, spec.evaluation.limit)
    quiet_libraries()
    refuse_unscorable(tasks, allow_unsafe_code=allow_unsafe_code)
    folders = train_recipe(recipe, catalog, out=out, data=data, twin=twin, resume=resume)
    if spec.evaluation.limit is not None:
        say(f"evaluation.limit {spec.evaluation.limit}: these rows will be badged and not ranked")
    runs = evaluate_all(
        spec.model,
        folders,
        tasks,
        catalog,
        out=out,
        format=spec.format,
        batch=spec.evaluation.batch,
        limit=spec.evaluation.limit,
        seed=spec.seed,
        allow_unsafe_code=allow_unsafe_code,
        twin=twin,
    )
    return show_leaderboard(
        [run.folder for run in runs],
        os.path.join(out, "leaderboard"),
        suite=spec.evaluation.suite,
        tasks=names,
        as_json=as_json,
    )
