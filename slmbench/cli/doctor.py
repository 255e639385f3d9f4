"""`slmbench doctor`: what works on this machine, what doesn't, how to mend it; and how a model would run here."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import click

from slmbench.catalog import default_catalog
from slmbench.console import paint, show, show_json
from slmbench.workflow.quiet import quiet_libraries

if TYPE_CHECKING:
    from slmbench.deployment import Capacity

COLORS = {"ok": "green", "limited": "yellow", "broken": "red"}


@click.command("doctor", help="What works on this machine, what doesn't, and how to mend it. Nothing is written.")
@click.option(
    "--for",
    "model",
    metavar="MODEL",
    help="How this model would run here, packed in every way: memory and tokens a second, measured in some seconds.",
)
@click.option("--json", "as_json", is_flag=True, help="One object on stdout, and nothing else.")
@click.pass_context
def command(ctx: click.Context, model: str | None, as_json: bool) -> None:
    quiet_libraries()
    if model is not None:
        from slmbench.deployment import capacity

        found = capacity(model, default_catalog())
        if as_json:
            show_json(found.as_json())
        else:
            _show_capacity(found)
        return
    _show_diagnosis(ctx, as_json)


def _show_diagnosis(ctx: click.Context, as_json: bool) -> None:
    from slmbench.console import colored
    from slmbench.workflow.doctor import diagnose

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


def _show_capacity(found: Capacity) -> None:
    from slmbench.console.columns import Cell, table_lines, wrapped
    from slmbench.deployment import CONTEXT_TOKENS
    from slmbench.leaderboard.texts import count, size

    width = min(120, max(40, shutil.get_terminal_size((100, 24)).columns))
    layers = f", {found.layers} layers" if found.layers else ""
    reads = f", reads {found.context_tokens:,} tokens" if found.context_tokens else ""
    show(f"{found.model}: {count(found.parameters)} parameters{layers}{reads}")
    free = "unknown" if found.free_bytes is None else size(found.free_bytes)
    flags = ", ".join(found.flags) or "no vector instructions that are known here"
    said = f"here: {found.cores} cores ({flags}), {free} of memory free"
    measured = f"reads {found.bytes_per_s / 1e9:.1f} GB/s, computes {found.flops / 1e9:.0f} GFLOP/s in float32"
    for line in wrapped(f"{said}; {measured}", width):
        show(line)
    mend = "isn't installed: pip install 'slmbench[llamacpp]'"
    for line in wrapped(f"llama.cpp: {found.llamacpp or mend}", width):
        show(line)
    show()
    rows = [
        [
            Cell(one.packing),
            Cell(size(one.file_bytes)),
            Cell(size(one.memory_bytes)),
            Cell({True: "yes", False: "no", None: "?"}[one.fits], "red" if one.fits is False else None),
            Cell(f"{'' if one.measured else '<= '}{one.decode_tokens_per_s:,.0f}"),
            Cell(f"{'' if one.measured else '~ '}{one.prefill_tokens_per_s:,.0f}"),
            Cell(one.engines),
        ]
        for one in found.fits
    ]
    head = ["packing", "file", "memory", "fits", "writes/s", "reads/s", "engine"]
    for line in table_lines(head, rows, right=("file", "memory", "writes/s", "reads/s")):
        show(line.rstrip(), painted=True)
    show()
    told = (
        f"Memory with {CONTEXT_TOKENS:,} tokens of keys and values. Tokens a second of one stream are reckoned: "
        "writing reads all weights once a token, so the memory's speed bounds it; reading, from float32 products."
    )
    for line in wrapped(told, width):
        show(line)
