"""`slmbench new`: something of one's own, that works before it is edited."""

from __future__ import annotations

import os

import click

from slmbench.console import say, show, show_json
from slmbench.paths import shown, user_roots


@click.group("new", help="Start something of your own.")
def command() -> None:
    pass


@command.command("task", help="A task's folder that passes check, and a recipe that trains nano on it.")
@click.argument("name")
@click.option(
    "--to",
    type=click.Path(file_okay=False),
    help="Where tasks/ and registry/ are made. [default: the first folder of SLMBENCH_PATH, else this one]",
)
@click.option("--from", "rows_of", type=click.Path(dir_okay=False), help="A file of your own rows: CSV, JSON, Parquet.")
@click.option(
    "--group",
    metavar="COLUMN",
    help="With --from: the column that groups rows; those of one group are all trained on or all held out.",
)
@click.option("--question", metavar="COLUMN", help="With --from: the column that asks. [default: guessed]")
@click.option("--answer", metavar="COLUMN", help="With --from: the column that answers. [default: guessed]")
@click.option("--encoding", help="With --from: its encoding if it is not UTF-8, such as cp1252.")
@click.option("--delimiter", help="With --from: its delimiter if the header doesn't show it.")
@click.option(
    "--real-samples",
    is_flag=True,
    help="Take golden rows, which travel with the task, from the file. [default: make them up]",
)
@click.option("--json", "as_json", is_flag=True, help="An array of the files on stdout, and nothing else.")
def task(
    name: str,
    to: str | None,
    rows_of: str | None,
    group: str | None,
    question: str | None,
    answer: str | None,
    encoding: str | None,
    delimiter: str | None,
    real_samples: bool,
    as_json: bool,
) -> None:
    from slmbench.drafts import Wishes
    from slmbench.errors import UsageError
    from slmbench.scaffold import new_task

    roots = user_roots()
    root = to or (roots[0] if roots else os.curdir)
    wishes = Wishes(group, question, answer, encoding, delimiter, real_samples)
    if rows_of is None and wishes != Wishes():
        raise UsageError("--group, --question, --answer and the like say how the file of --from is read; name one")
    made = new_task(name, root, rows_of=rows_of, wishes=wishes)
    files = [os.path.normpath(path) for path in made.files]
    if as_json:
        show_json(files)
    else:
        for path in files:
            show(shown(path))
    listed = os.path.realpath(root) in {os.path.realpath(folder) for folder in roots}
    for note in made.notes:
        say(f"note: {note}")
    if rows_of is not None:
        golden = "rows of the file" if real_samples else "made up, none of them a row of the file"
        say(f"note: {os.path.basename(rows_of)} was copied into the task's folder and kept out of git; the golden")
        say(f"  rows (samples.jsonl) are {golden}")
    say("next:")
    if not listed:
        import shlex

        rest = '"${SLMBENCH_PATH:+:$SLMBENCH_PATH}"' if roots else ""
        say(f"  export SLMBENCH_PATH={shlex.quote(os.path.abspath(root))}{rest}")
    say(f"  slmbench check {name}")
    say(f"  slmbench eval nano --tasks {name}")
    say(f"  slmbench run {name}    # trains nano on it: before, after, leaderboard")
