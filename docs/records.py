"""Writes the tables of fields in docs/fields.md from the JSON schemas that `slmbench schema` prints.

python docs/records.py [--check]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slmbench.cli.schema import json_schema

PAGE = Path(__file__).resolve().parent / "fields.md"
START, END = "<!-- Generated: python docs/records.py -->\n", "<!-- Generated up to here -->\n"
FILES = {
    "run": "`run.json`",
    "sample": "A line of `samples.jsonl`",
    "training": "`training.json`",
    "merged": "`merge.json`",
    "leaderboard": "`leaderboard.json`",
}


def rows(schema: dict[str, Any], parts: dict[str, Any], at: str = "") -> Iterator[tuple[str, str, str]]:
    """(a field's dotted name, what it holds, what it says) of a schema and of the parts in it."""
    for name, field in schema["properties"].items():
        kind, inner, steps = kind_of(field)
        yield at + name, kind, field["description"]
        if inner is not None:
            yield from rows(parts[inner], parts, f"{at}{name}{steps}.")


def kind_of(field: dict[str, Any]) -> tuple[str, str | None, str]:
    """What a field holds, in words; the part that it is made of, None without one; and the steps down to that part."""
    if "$ref" in field:
        return "object", field["$ref"].rpartition("/")[2], ""
    if "anyOf" in field:
        kinds = [kind_of(one) for one in field["anyOf"]]
        inner = next((kind for kind in kinds if kind[1] is not None), ("", None, ""))
        return " or ".join(kind for kind, _, _ in kinds), inner[1], inner[2]
    kind = str(field.get("type", "anything"))
    below = field.get("items") if kind == "array" else field.get("additionalProperties")
    if kind not in ("array", "object") or not isinstance(below, dict):
        values = [field["const"]] if "const" in field else field.get("enum")
        return " or ".join(f"`{value}`" for value in values) if values else kind, None, ""
    _, inner, steps = kind_of(below)
    return kind, inner, ("[]" if kind == "array" else ".*") + steps


def tables() -> str:
    """What stands between START and END."""
    made = []
    for kind, file in FILES.items():
        schema = json_schema(kind)
        made += [f"### {file}\n", "| field | holds | what it is |", "| --- | --- | --- |"]
        cells = rows(schema, schema.get("$defs", {}))
        made += [f"| `{name}` | {holds} | {said.replace('|', chr(92) + '|')} |" for name, holds, said in cells]
        made.append("")
    return "\n".join(made)


def page() -> str:
    """The whole page, its tables made anew."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    return before + START + "\n" + tables() + END + rest.partition(END)[2]


if __name__ == "__main__":
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit("docs/fields.md has not the fields of the records: run python docs/records.py")
