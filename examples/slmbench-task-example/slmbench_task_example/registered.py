"""What this package registers: its entry point of the group `slmbench.plugins` names this module."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Sequence

import slmbench


@slmbench.loader("ward_rows", summary="The rows of a table in a SQLite file, by its column `split`.", version="1")
def sqlite_rows(split: str, folder: str, file: str, table: str) -> Iterator[dict[str, object]]:
    """Every row of the split as a dict of its columns, in the order of its id."""
    if not table.isidentifier():
        raise ValueError(f"table is {table!r}; give a plain name")
    # Read only: a mistyped name must not make an empty file.
    path = os.path.abspath(os.path.join(folder, file))
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        found = connection.execute(f"select * from {table} where split = ? order by id", (split,))
        columns = [column[0] for column in found.description]
        for row in found:
            yield {name: value for name, value in zip(columns, row, strict=True) if name != "split"}
    finally:
        connection.close()


@slmbench.metric(
    "ward_unit_match",
    summary="The number is right (half of the score), and so is its unit (the other half).",
    version="1",
)
def unit_match(output: str, references: Sequence[str]) -> float:
    """1.0, 0.5 or 0.0, against the reference that is best for it."""
    number, unit = _parts(output)
    return max(_half(number, _parts(one)[0]) + _half(unit, _parts(one)[1]) for one in references)


def _parts(text: str) -> tuple[str, str]:
    found = re.match(r"\s*(-?[\d.]+)\s*(\S*)", text)
    return (found[1].rstrip("."), found[2]) if found else ("", "")


def _half(got: str, wanted: str) -> float:
    return 0.5 if got and got == wanted else 0.0


def _write(target: object) -> str:
    return f"{target.text}</answer>"


def _read(output: str, reasoned: bool) -> str:
    text, closed, _ = output.partition("</answer>")
    if not closed and "<" in text:
        raise ValueError("the answer is opened as <answer>, and another tag follows")
    return text.strip()


@slmbench.format(
    "ward_tagged",
    summary="Question and answer between tags, `<ask>` and `<answer>`.",
    version="1",
    kind="object",
    write=_write,
    read=_read,
    stop=lambda declared: ["</answer>"],
)
def tagged(prompt: object, tokenizer: object) -> tuple[str, str]:
    """The worked shots, then the question; the answer's tag is open."""
    shots = "".join(f"<ask>{shot.user}</ask>\n<answer>{_write(shot.target)}\n" for shot in prompt.shots)
    return f"{shots}<ask>{prompt.user}</ask>\n<answer>", ""
