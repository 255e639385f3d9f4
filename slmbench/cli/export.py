"""`slmbench export`: an adapter for where people run small models."""

from __future__ import annotations

import click

from slmbench.catalog import default_catalog
from slmbench.console import say, show, show_json
from slmbench.errors import SlmbenchError
from slmbench.workflow.quiet import quiet_libraries
from slmbench.workflow.recipes import DEFAULT_OUT


@click.command("export", help="Merge an ADAPTER (its folder) into its base, for transformers, Ollama or llama.cpp.")
@click.argument("adapter", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--to",
    required=True,
    type=click.Choice(["merged", "ollama", "gguf", "gguf-lora", "gguf-ready"]),
    help="What is made of it.",
)
@click.option(
    "--quantize",
    metavar="KINDS",
    help="Of gguf: how it is packed, a file each, as q8_0,q4_k_m,f16.  [default: f16]",
)
@click.option("--model", metavar="M", help="The base, if the adapter doesn't say: a name, a folder, or a hub id.")
@click.option("--force-base", is_flag=True, help="Merge into this base, whatever the adapter was trained on.")
@click.option("--format", "format_name", help="plain, chat or toon: how it was trained, if the adapter doesn't say.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="auto: as in training; for Ollama and GGUF two bytes per weight.",
)
@click.option(
    "--out",
    default=DEFAULT_OUT,
    show_default=True,
    type=click.Path(file_okay=False),
    help="Its `models` gets the folder.",
)
@click.option("--json", "as_json", is_flag=True, help="The record as JSON on stdout, and nothing else.")
def command(
    adapter: str,
    to: str,
    quantize: str | None,
    model: str | None,
    force_base: bool,
    format_name: str | None,
    dtype: str,
    out: str,
    as_json: bool,
) -> None:
    from slmbench.deployment import export_adapter

    quiet_libraries()
    made = export_adapter(
        adapter,
        to,  # type: ignore[arg-type]
        default_catalog(),
        out=out,
        model=model,
        dtype=dtype,
        format=format_name,
        force_base=force_base,
        quantize=[] if quantize is None else quantize.split(","),
    )
    measured = made.record.get("merge", {})
    if "largest_difference" in measured:
        evaluated = measured["as_evaluated"]
        say(
            f"merged: logits moved by at most {measured['largest_difference']:.2g} in float32, over "
            f"{measured['tokens']} tokens of {measured['prompts']} prompts; in {made.record['dtype']}, as written, "
            f"they differ from the evaluated model's by at most {evaluated['largest_difference']:.2g}, and "
            f"{evaluated['same_next_token']:.1%} of next tokens are the same"
        )
    for one in made.record.get("gguf", ()):
        packer = f", packed by {one['quantiser']}" if one["quantiser"] else ""
        say(f"{one['file']}: {one['bytes'] / 1e6:,.1f} MB, {one['bits_a_weight']:.2f} bits a weight{packer}")
    for notice in made.notices:
        say(f"note: {notice}")
    if as_json:
        show_json(made.record | {"folder": made.folder})
    else:
        show(made.folder)
    for line in made.commands:
        say(f"next: {line}")
    for problem in made.problems:
        say(f"problem: {problem}")
    if made.problems and to == "gguf-ready":
        raise SlmbenchError(f"{made.folder} is written, but llama.cpp's converter would refuse it as it is")
