"""`slmbench data`: mirrors of data sets, written on a connected machine and checked behind the air gap."""

from __future__ import annotations

import click

from slmbench.catalog import default_catalog
from slmbench.cli._work import quiet_libraries, say
from slmbench.paths import mirror_dir, shown


@click.group("data", help="Mirrors of data sets, for machines without a network.")
def command() -> None:
    pass


@command.command("pull", help="Write data sets of the hub into a mirror: every declared split, with checksums.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--to", required=True, type=click.Path(file_okay=False), help="The mirror's folder.")
@click.option("--json", "as_json", is_flag=True, help="An array of the files on stdout, and nothing else there.")
def pull_command(names: tuple[str, ...], to: str, as_json: bool) -> None:
    import os

    from slmbench.mirror import pull

    quiet_libraries()
    files = pull(names, to, default_catalog(), progress=say)
    if as_json:
        import json

        click.echo(json.dumps(files, indent=1))
    else:
        for path in files:
            click.echo(shown(path))
    carried = os.path.basename(os.path.abspath(to))
    say(f"carry the folder over, then: export SLMBENCH_DATA={carried}; slmbench data verify")


@command.command(
    "verify", help="Check a mirror: the folder FOLDER, or that of SLMBENCH_DATA; all of it, or data sets NAME."
)
@click.argument("folder", required=False, type=click.Path())
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--json", "as_json", is_flag=True, help="One object on stdout, and nothing else there.")
@click.pass_context
def verify_command(ctx: click.Context, folder: str | None, names: tuple[str, ...], as_json: bool) -> None:
    from slmbench.errors import UsageError
    from slmbench.mirror import verify

    where = folder or mirror_dir()
    if where is None:
        raise UsageError("no mirror named; give its folder, or set SLMBENCH_DATA to it")
    report = verify(where, default_catalog(), names or None)
    if as_json:
        import json

        problems = [{"path": one.path, "line": one.line, "message": one.message} for one in report.problems]
        value = {"ok": report.ok, "files": report.files, "problems": problems, "notices": list(report.notices)}
        click.echo(json.dumps(value, indent=1))
    else:
        verdict = "ok" if report.ok else f"{len(report.problems)} problem{'s' if len(report.problems) > 1 else ''}"
        click.echo(f"{shown(where)}: {report.files} file{'' if report.files == 1 else 's'}, {verdict}")
        for problem in report.problems:
            click.echo(str(problem))
    for notice in report.notices:
        say(f"note: {notice}")
    if not report.ok:
        ctx.exit(2)
