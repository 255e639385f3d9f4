"""Whether a prompt shows the answer that it asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from attrs import evolve

from slmbench.checks._findings import Findings, short
from slmbench.errors import SlmbenchError
from slmbench.formats import format_names, load_format
from slmbench.task import Task
from slmbench.values import Example, Prompt, Tokenizer

BY_CHANCE = 12
"""A gold answer of fewer characters may stand in a format's own words by chance."""


def check_gold_is_hidden(
    task: Task, examples: Sequence[Example], tokenizer: Tokenizer, where: str, mode: str, found: Findings
) -> None:
    """Finds formats whose prompt holds a gold answer that the plain prompt doesn't, shots aside.

    What the plain prompt holds is the author's own: options, a passage that the answer is quoted from. Where the whole
    answer is one of the values that it prints, in more than half of a split's rows of a task that writes its answer, a
    notice says it. A short answer that a format
    alone holds is a fault only if it is there in more than half of the rows: others may be chance.
    """
    held: dict[str, list[tuple[Example, str]]] = {name: [] for name in format_names(task.plugins)}
    for example in examples:
        for name, gold in _held(task, example, tokenizer).items():
            held[name].append((example, gold))
    for name, rows in held.items():
        for example, gold in rows:
            if name != "plain" and (len(gold) >= BY_CHANCE or 2 * len(rows) > len(examples)):
                message = f"the prompt shows the gold answer, which the plain one doesn't{mode}: {short(gold)}"
                found.of_format(name, ("prompt",), message, example.id)
    if where and task.kind != "choice" and 2 * len(held["plain"]) > len(examples):
        first, gold = held["plain"][0]
        found.note(
            f"{len(held['plain'])} of {len(examples)} prompts of split {where!r} print their gold answer as it is, as "
            f"they should only if it is one of several to choose from ({first.id} first: {short(gold)})"
        )


def _held(task: Task, example: Example, tokenizer: Tokenizer) -> dict[str, str]:
    """Format -> the gold answer that its prompt holds, of formats other than plain only if the plain one doesn't."""
    found: dict[str, str] = {}
    golds = [gold for gold in dict.fromkeys((example.answer, *example.references)) if re.search(r"\w", gold)]
    for name in format_names(task.plugins):
        style = load_format(name, task.plugins)
        try:
            bound = task.in_format(style)
            prompt = evolve(bound.prompt(bound.rebound(example)), shots=())
            text = f"{style.render(prompt, tokenizer).text}\n{_cells(prompt) if name == 'toon' else ''}"
        except SlmbenchError:  # Told where every prompt is written down.
            continue
        if name == "plain":
            printed = set(_texts_in(list(prompt.inputs.values())))
            if gold := next((gold for gold in golds if gold.strip() in printed), ""):
                found[name] = gold
            golds = [gold for gold in golds if not _holds(text, gold)]
        elif gold := next((gold for gold in golds if _holds(text, gold)), ""):
            found[name] = gold
    return found


def _texts_in(value: object) -> Iterator[str]:
    """The texts of a printed value, those inside of lists and structs too."""
    parts = value if isinstance(value, list | tuple) else value.values() if isinstance(value, Mapping) else None
    if parts is None:
        yield str(value).strip()
    else:
        for part in parts:
            yield from _texts_in(part)


def _cells(prompt: Prompt) -> str:
    # As they are: a quoted cell has other characters for its line breaks and quotes.
    return "\n".join(map(str, prompt.inputs.values()))


def _holds(text: str, gold: str) -> bool:
    wanted = re.escape(" ".join(gold.split()).casefold())
    return re.search(rf"(?<!\w){wanted}(?!\w)", " ".join(text.split()).casefold()) is not None
