"""`slmbench new`: something of one's own, that works before it is edited."""

from __future__ import annotations

import os

import click

from slmbench.console import say
from slmbench.paths import shown, user_roots


@click.group("new", help="Start something of your own.")
def command() -> None:
    pass


@command.command("task", help="A task's folder that passes check, and a recipe that trains nano on it.")
@click.argument("name")
@click.option(
    "--to",
    type=click.Path(file_okay=False),
    help="Where tasks/ and registry/ are made; the first folder of SLMBENCH_PATH unless told, else this one.",
)
@click.option("--json", "as_json", is_flag=True, help="An array of the files on stdout, and nothing else there.")
def task(name: str, to: str | None, as_json: bool) -> None:
    from slmbench.scaffold import new_task

    roots = user_roots()
    root = to or (roots[0] if roots else os.curdir)
    files = [os.path.normpath(path) for path in new_task(name, root)]
    if as_json:
        import json

        click.echo(json.dumps(files, indent=1))
    else:
        for path in files:
            click.echo(shown(path))
    listed = os.path.realpath(root) in {os.path.realpath(folder) for folder in roots}
    say("next:")
    if not listed:
        import shlex

        rest = '"${SLMBENCH_PATH:+:$SLMBENCH_PATH}"' if roots else ""
        say(f"  export SLMBENCH_PATH={shlex.quote(os.path.abspath(root))}{rest}")
    say(f"  slmbench check {name}")
    say(f"  slmbench eval nano --tasks {name}")
    say(f"  slmbench run {name}    # trains nano on it: before, after, leaderboard")
