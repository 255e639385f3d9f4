"""`slmbench list`: what there is, from headers alone."""

from __future__ import annotations

from slmbench.catalog import CODE_KINDS, KINDS, default_catalog
from slmbench.console import say, show, show_json


def quick_options(arguments: list[str]) -> tuple[str | None, bool] | None:
    """(kind, json) where the arguments are just those; None if click has to say something about them."""
    kind, as_json = None, False
    for argument in arguments:
        if argument == "--json":
            as_json = True
        elif argument in KINDS and kind is None:
            kind = argument
        else:
            return None
    return kind, as_json


def print_list(kind: str | None, as_json: bool) -> None:
    """Prints the entries of a kind, or of all."""
    catalog = default_catalog()
    entries = [entry for name in ((kind,) if kind else KINDS) for entry in catalog.entries(name)]
    if as_json:
        show_json([entry._asdict() for entry in entries])
        return
    if not entries:
        say(f"no {kind or 'entries'}")
        return
    width = max(len(entry.name) for entry in entries)
    # Of code alone: a declaration's file is what `show` is for. Without plugins all is slmbench's own.
    origins = {entry: catalog.origin(entry.path) for entry in entries if entry.kind in CODE_KINDS}
    beside = max(map(len, origins.values()), default=0)
    if not any(entry.path for entry in origins):
        origins = {}
    shown = None
    for entry in entries:
        if kind is None and entry.kind != shown:
            if shown is not None:
                show()
            show(entry.kind)
            shown = entry.kind
        indent = "" if kind else "  "
        origin = f"{origins[entry]:<{beside}}  " if entry in origins else ""
        show(f"{indent}{entry.name:<{width}}  {origin}{entry.summary}")


def __getattr__(name: str) -> object:
    # The click command is built only when click has been asked for; see slmbench.cli.main.
    if name != "command":
        raise AttributeError(name)
    import click

    @click.command("list", help="What there is. Reads headers and runs no plugin.")
    @click.argument("kind", required=False, type=click.Choice(KINDS))
    @click.option("--json", "as_json", is_flag=True, help="An array of {kind, name, summary, path} on stdout.")
    def command(kind: str | None, as_json: bool) -> None:
        print_list(kind, as_json)

    return command
