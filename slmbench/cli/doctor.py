"""`slmbench doctor`: what works on this machine, what doesn't, and how to mend it."""

from __future__ import annotations

import click

from slmbench.console import paint, show, show_json
from slmbench.workflow.quiet import quiet_libraries

COLORS = {"ok": "green", "limited": "yellow", "broken": "red"}


@click.command("doctor", help="What works on this machine, what doesn't, and how to mend it. Nothing is written.")
@click.option("--json", "as_json", is_flag=True, help="One object on stdout, and nothing else.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    from slmbench.console import colored
    from slmbench.workflow.doctor import diagnose

    quiet_libraries()
    found = diagnose()
    if as_json:
        show_json(found.as_json())
    else:
        show(", ".join(f"{name} {version}" for name, version in found.versions.items()))
        painted = colored()
        for one in found.findings:
            mark = f"{one.status:<7}"
            show(
                f"{paint(mark, COLORS[one.status]) if painted else mark}  {paint(f'{one.name}: {one.said}')}",
                painted=True,
            )
            if one.mend:
                show(f"{'':9}mend: {one.mend}")
        broken = sum(one.status == "broken" for one in found.findings)
        show(f"{broken} broken: slmbench needs that" if broken else "nothing that slmbench needs is broken")
    if not found.ok:
        ctx.exit(1)
