"""The click group, which imports a command's module only when that command is asked for."""

from __future__ import annotations

import importlib

import click

from slmbench.cli import COMMANDS
from slmbench.console import show


class Interrupted(BaseException):
    """KeyboardInterrupt on its way through click, which would write an empty line of its own at that."""


class LazyGroup(click.Group):
    """Commands by name; each lives in the module of that name as `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"slmbench.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from slmbench.errors import UsageError, did_you_mean

        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise UsageError(f"unknown command {args[0]!r}{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # From the table alone: a help page needs no command's module.
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        show(f"slmbench {version('slmbench')}")
        ctx.exit()


def build_group(kind: type[LazyGroup] = LazyGroup) -> click.Group:
    """The `slmbench` command."""
    return kind(
        name="slmbench",
        help="Declare a task once; train on it, evaluate on it, rank on it.",
        params=[
            click.Option(["--version"], is_flag=True, expose_value=False, callback=_version, help="Print the version.")
        ],
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        no_args_is_help=True,
    )
