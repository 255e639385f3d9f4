"""Options that commands with a recipe share."""

from __future__ import annotations

import functools
import inspect
import pkgutil
from collections.abc import Callable
from typing import TypeVar

import click

from slmbench.cli._boards import listed
from slmbench.workflow.recipes import DEFAULT_OUT, DEFAULT_TWIN_OUT, out_folder

R = TypeVar("R")
data_option = click.option(
    "--data",
    type=click.Choice(["auto", "samples"]),
    default="auto",
    show_default=True,
    help="samples: the tasks' golden rows in place of their data; such runs are badged, and never ranked.",
)
TRACKERS = ("tensorboard", "trackio", "wandb", "mlflow")
"""As `slmbench.training` has them, whose import a command's help doesn't need."""


def _installed(_: click.Context, __: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    """Raises UsageError for a tracker that isn't installed, before anything is read."""
    if names:
        from slmbench.training import require_trackers

        require_trackers(names)
    return names


_OPTIONS = (
    click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="For example --set optim.lr=1e-4; checked."
    ),
    click.option("--variant", metavar="NAME", help="One of the recipe's variants; --set is applied after it."),
    click.option(
        "--twin",
        is_flag=True,
        is_eager=True,
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
    data_option,
    click.option(
        "--resume/--no-resume",
        default=True,
        show_default=True,
        help="Resume from the checkpoints of an interrupted training.",
    ),
    click.option(
        "--track",
        multiple=True,
        type=click.Choice(TRACKERS),
        callback=_installed,
        help="Tell a tracker, which has to be installed, how trainings go: on this machine, unless its own variables "
        "say otherwise. May be repeated.",
    ),
)


def recipe_options(command: Callable[..., R]) -> Callable[..., R]:
    """Gives a command --set, --variant, --twin and the like, which it takes as one `options`."""
    with_options = gathered(options="slmbench.workflow.recipes:RecipeOptions")(command)
    for option in reversed(_OPTIONS):
        with_options = option(with_options)
    return with_options


def gathered(**kinds: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Hands flags over as values: name -> `module:class`, which takes all flags that it has parameters for.

    Later ones may take what earlier ones made. The modules are imported when the command runs, not for its help.
    """

    def wrap(command: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(command)
        def run(**given: object) -> R:
            for name, place in kinds.items():
                kind = pkgutil.resolve_name(place)
                there = [key for key in inspect.signature(kind).parameters if key in given]
                given[name] = kind(**{key: given.pop(key) for key in there})
            return command(**given)

        return run

    return wrap


def out_option(command: Callable[..., R]) -> Callable[..., R]:
    """Gives a command --out, whose default depends on its --twin."""

    def chosen(context: click.Context, _: click.Parameter, out: str | None) -> str:
        return out_folder(out, DEFAULT_OUT, context.params["twin"])

    help = f"{DEFAULT_OUT}, or {DEFAULT_TWIN_OUT} with --twin."
    return click.option("--out", type=click.Path(file_okay=False), callback=chosen, help=help)(command)


def names_of(context: click.Context, param: click.Parameter, names: str | None) -> tuple[str, ...] | None:
    """A flag's names, separated by commas; None where it isn't given. Raises UsageError if there are none."""
    return None if names is None else tuple(listed(param.opts[0], names))
