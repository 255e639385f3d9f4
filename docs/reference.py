"""Writes docs/commands.md from the command line, docs/schemas.md and docs/schemas/ from the schemas of declarations.

python docs/reference.py [--check]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from slmbench.cli._group import build_group
from slmbench.cli.schema import DECLARED, json_schema

DOCS = Path(__file__).resolve().parent
NOTE = "<!-- Generated: python docs/reference.py -->\n"
COMMANDS_HEAD = """\
# Commands

What `slmbench COMMAND --help` says. Data goes to stdout, everything else to stderr; what the exit codes mean stands in
[runs and leaderboards](results.md#exit-codes). Every command takes `--help`.
"""
SCHEMAS_HEAD = """\
# Keys of declarations

Every key that a YAML file may have, and what it is if it is left out. [Tasks](tasks.md), [recipes](recipes.md),
[models](models.md) and [data](data.md) explain them with examples. An unknown key is an error, with file, line and
column. [In an editor](recipes.md#in-an-editor) the JSON schemas give completion and errors while typing.
"""
FILES = {
    "task": "tasks/NAME/task.yaml",
    "dataset": "registry/datasets/NAME.yaml",
    "model": "registry/models/NAME.yaml",
    "recipe": "registry/recipes/NAME.yaml",
    "merge": "registry/recipes/NAME.yaml, with kind: merge",
    "suite": "registry/suites/NAME.yaml",
    "matrix": "GRID.yaml, a file of your own",
    "format": "registry/formats/NAME.yaml",
}


def cell(text: str) -> str:
    """A text for a cell of a table: in one line, nothing of it read as a column or as markup."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def code(text: str) -> str:
    """A text as code in a cell. The site would show a backslash before a bar; a forge ends the cell at a bare one."""
    return f"<code>{text.replace('<', '&lt;').replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`"


def commands(context: click.Context) -> Iterator[str]:
    """The section of a command, and those of its subcommands."""
    command = context.command
    if not isinstance(command, click.Group):
        yield f"\n## {context.command_path}\n\n{' '.join((command.help or '').replace('<', '&lt;').split())}\n"
        # An optional choice has its brackets twice in earlier versions of click.
        usage = " ".join(command.collect_usage_pieces(context)).replace("[[", "[").replace("]]", "]")
        yield f"\n`{context.command_path} {usage}`\n"
        records = [one.get_help_record(context) for one in command.params if isinstance(one, click.Option)]
        if shown := [record for record in records if record is not None]:
            yield "\n| option | does |\n| --- | --- |\n"
            for names, does in shown:
                yield f"| {code(names)} | {cell(does)} |\n"
        return
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from commands(click.Context(below, info_name=name, parent=context))


def kind_of(field: dict[str, Any], at: str, blocks: dict[str, str]) -> list[str]:
    """What a key holds, in words, one for each way. blocks: where each part of the schema stands first, by its name."""
    if "$ref" in field:
        return [f"the block `{blocks.setdefault(field['$ref'].rpartition('/')[2], at)}`"]
    if "anyOf" in field:
        return [kind for one in field["anyOf"] for kind in kind_of(one, at, blocks)]
    if values := [field["const"]] if "const" in field else field.get("enum"):
        return [
            f"`{value}`" if str(value).isprintable() and str(value).strip() else f"`{json.dumps(value)}`"
            for value in values
        ]
    kind = str(field.get("type", "anything"))
    below = field.get("items") if kind == "array" else field.get("additionalProperties")
    if not isinstance(below, dict) or not below:
        return [{"object": "a mapping", "array": "a list"}.get(kind, kind)]
    kinds = " or ".join(kind_of(below, at + ("[]" if kind == "array" else ".NAME"), blocks))
    return [("list of (" if kind == "array" else "names to (") + kinds + ")"]


def table(schema: dict[str, Any], at: str, blocks: dict[str, str]) -> Iterator[str]:
    """What a block is for, and its keys."""
    text = schema.get("description", "").replace("<", "&lt;").replace("*", "\\*")
    yield f"\n{text}\n\n| key | holds | left out |\n| --- | --- | --- |\n"
    for name, field in schema["properties"].items():
        kinds = kind_of(field, f"{at}.{name}".lstrip("."), blocks)
        holds = " or ".join(kind for kind in kinds if kind != "null" or field.get("default", "") is not None)
        default = field.get("default")
        left_out = f"`{json.dumps(default)}`" if "default" in field else ""
        if name in schema.get("required", []):
            left_out = "an error"
        elif isinstance(default, dict) and default:
            left_out = "as its keys"
        yield f"| `{name}` | {holds.replace('|', chr(92) + '|')} | {left_out} |\n"


def declarations(kind: str) -> Iterator[str]:
    """The section of a kind of declaration: its own keys, then those of each block in it."""
    schema = json_schema(kind)
    yield f"\n## {kind}\n\n`{FILES[kind]}`; the JSON schema: [{kind}.json](schemas/{kind}.json)\n"
    blocks: dict[str, str] = {}
    yield from table(schema, "", blocks)
    told = 0
    while told < len(blocks):  # A block may have blocks of its own.
        part, at = list(blocks.items())[told]
        told += 1
        if "properties" in schema["$defs"][part]:
            yield f"\n### `{at}` of a {kind}\n"
            yield from table(schema["$defs"][part], at, blocks)


def made() -> dict[Path, str]:
    """Every file, and what it has to hold."""
    files = {
        DOCS / "commands.md": NOTE
        + COMMANDS_HEAD
        + "".join(commands(click.Context(build_group(), info_name="slmbench")))
    }
    files[DOCS / "schemas.md"] = NOTE + SCHEMAS_HEAD + "".join("".join(declarations(kind)) for kind in FILES)
    for kind in DECLARED:
        files[DOCS / "schemas" / f"{kind}.json"] = json.dumps(json_schema(kind), indent=1) + "\n"
    return files


if __name__ == "__main__":
    files = made()
    if "--check" in sys.argv[1:]:
        old = [
            path.name for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text
        ]
        if old:
            sys.exit(f"docs: {', '.join(old)} are not of this code: run python docs/reference.py")
    else:
        (DOCS / "schemas").mkdir(exist_ok=True)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
