"""What a shell's tab key is answered: commands and flags by click, names by the headers that `slmbench list` reads."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

import click
from click.shell_completion import CompletionItem, get_completion_class, shell_complete

from slmbench.catalog import KINDS, default_catalog
from slmbench.cli._group import LazyGroup
from slmbench.cli._options import names_of
from slmbench.errors import SlmbenchError

VARIABLE = "_SLMBENCH_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
NAMED = {
    "model": ("models",),
    "recipe": ("recipes",),
    "recipe_name": ("recipes",),
    "task": ("tasks",),
    "tasks": ("tasks",),
    "unknown": ("tasks",),
    "suite": ("suites",),
    "suites": ("suites",),
    "recipes": ("recipes",),
    "models": ("models",),
    "format": ("formats",),
    "format_name": ("formats",),
    "metrics": ("metrics",),
    "engine": ("engines",),
    "check names": ("tasks", "recipes"),
    "cite names": ("recipes", "tasks", "models", "datasets", "suites"),
    "data export names": ("tasks",),
    "data pull names": ("datasets",),
    "data tokens names": ("tasks",),
    "data verify names": ("datasets",),
}
"""The kinds whose names a parameter takes, by its own name, or by its command's and its own."""
PATHS = ("a", "adapter", "adapters", "against", "b", "model", "names", "recipe", "recipe_name", "router", "run")
"""Parameters that take a file or a folder as well, or alone: where no name fits, the shell completes those."""
FREE = (
    *(
        "answer",
        "api_key_env",
        "delimiter",
        "deploy",
        "developer",
        "encoding",
        "group",
        "head",
        "item",
        "key",
        "on",
        "only",
    ),
    *(
        "organization",
        "over",
        "overrides",
        "push",
        "quantize",
        "question",
        "seeds",
        "served",
        "split",
        "store",
        "system",
        "text",
    ),
    *("url", "variant", "without"),
)
"""Texts that are a person's own: there is nothing to complete."""


class _Names(click.ParamType[str]):
    """A text that is one of some kinds' names. many: names with commas between them."""

    name = "text"

    def __init__(self, kinds: tuple[str, ...], *, many: bool, paths: bool) -> None:
        self.kinds, self.many, self.paths = kinds, many, paths

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, begun = incomplete.rpartition(",") if self.many else ("", "", incomplete)
        kinds = self.kinds
        if ctx.info_name == "show" and param.name == "name":
            kinds = tuple(kind for kind in KINDS if kind[:-1] == ctx.params.get("kind"))
        found = [
            CompletionItem(before + comma + name, help=summary)
            for name, summary in _names(kinds)
            if name.startswith(begun) and name not in before.split(",")
        ]
        # bash gives names up where it is asked for files, so it is one or the other.
        return found or [CompletionItem(incomplete, type="file")] * self.paths


def _names(kinds: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    catalog = default_catalog()
    for kind in kinds:
        with contextlib.suppress(SlmbenchError):  # A name that is there twice, say: `list` tells it.
            # A folder may be called anything, and a shell splits at spaces and lines.
            yield from ((one.name, one.summary) for one in catalog.entries(kind) if one.name.isprintable())


class CompletingGroup(LazyGroup):
    """The group as a shell asks it: its parameters know the names that they take."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _give_names(command, cmd_name)
        return command


def _give_names(command: click.Command, path: str) -> None:
    for name, inner in getattr(command, "commands", {}).items():
        _give_names(inner, f"{path} {name}")
    for param in command.params:
        kinds = NAMED.get(f"{path} {param.name}", NAMED.get(param.name or "", ()))
        paths = param.name in PATHS
        if param.type is click.STRING and (kinds or paths or (path, param.name) == ("show", "name")):
            param.type = _Names(kinds, many=getattr(param, "callback", None) is names_of, paths=paths)


def script(shell: str) -> str:
    """The lines that make a shell ask slmbench at the tab key."""
    kind = get_completion_class(shell)
    assert kind is not None
    # click's own for fish splits what it is told at every comma; `--tasks a,b` is one word.
    return kind(click.Group(), {}, "slmbench", VARIABLE).source().replace('split ","', 'split -m 1 ","')


def answer(instruction: str) -> int:
    """Answers what a shell asks in `instruction` and COMP_WORDS, on stdout; the exit code.

    Nothing is said on stderr, as it would stand amid the line that a person types.
    """
    from slmbench.cli._group import build_group

    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SlmbenchError):
        return shell_complete(build_group(CompletingGroup), {}, "slmbench", VARIABLE, instruction)
    return 1
