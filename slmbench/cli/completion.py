"""`slmbench completion`: the lines that make a shell complete commands, flags and names."""

from __future__ import annotations

import click

from slmbench.cli._completion import SHELLS, script
from slmbench.console import show


@click.command("completion", help="The lines by which a SHELL completes commands, flags and names at the tab key.")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    show(script(shell).removesuffix("\n"), keep="\n\t")
