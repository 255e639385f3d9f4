"""Options that commands with a recipe share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from slmbench.workflow.recipes import RecipeOptions

_OPTIONS = (
    click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="For example --set optim.lr=1e-4; checked."
    ),
    click.option("--variant", metavar="NAME", help="One of the recipe's variants; --set is applied after it."),
    click.option(
        "--twin",
        is_flag=True,
        help="A tiny random copy of the model, few rows, few steps: every path of the recipe in a minute, offline.",
    ),
    click.option(
        "--on-contamination",
        type=click.Choice(["fail", "drop", "warn"]),
        help="What to do with training rows that are also evaluated. [default: the recipe's (drop)]",
    ),
    click.option(
        "--memory-limit",
        "memory_limit_gb",
        type=click.FloatRange(min=0, min_open=True),
        metavar="GB",
        help="Refuse a training that is forecast to need more. [default: the machine's memory]",
    ),
    click.option("--data", type=click.Choice(["auto", "samples"]), default="auto", show_default=True),
    click.option(
        "--resume/--no-resume",
        default=True,
        show_default=True,
        help="Resume from the checkpoints of an interrupted training.",
    ),
)


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command --set, --variant, --twin and the like, which it takes as one `options`."""

    @functools.wraps(command)
    def with_options(**given: Any) -> Any:
        options = RecipeOptions(**{key: given.pop(key) for key in RecipeOptions._fields})
        return command(options=options, **given)

    for option in reversed(_OPTIONS):
        with_options = option(with_options)
    return with_options
