"""Whether a model could write the targets: within the tokens it may use, with the reasoning and mark asked for."""

from __future__ import annotations

from collections.abc import Sequence

from slmbench.checks._findings import Findings, short
from slmbench.checks._formats import Reading, Written
from slmbench.lengths import Ruler
from slmbench.task import Task, extracted
from slmbench.values import Example
from slmbench.yamlfile import Location


def check_room(task: Task, rows: Sequence[Written], where: str, mode: str, found: Findings) -> None:
    """Finds targets of more words than max_tokens: no tokenizer makes less than a token a word.

    where: the split, whose rows are counted in a notice; '' for golden rows, where one is a problem.
    """
    if task.kind == "choice":
        return
    said = _limit_of(task)
    words = {row.example.id: len(task.answer(row.example).split()) for row in rows}
    over = {item: n for item, n in words.items() if n > task.max_tokens}
    allowed = f"{'.'.join(map(str, said))} ({task.max_tokens})"
    if over and where:
        which = f"{len(over)} of {len(rows)} gold answers of split {where!r}"
        found.note(f"{which} have more words than {allowed} allows tokens ({next(iter(over))} first)")
        return
    for item, n in over.items():
        message = f"the gold answer has {n} words, more than {allowed} allows tokens{mode}"
        found.of_row("max_tokens", found.document.problem(said, message), item)


def check_room_in_tokens(
    task: Task, rows: Sequence[Written], where: str, mode: str, ruler: Ruler, found: Findings
) -> None:
    """Finds formats in which gold answers have more of a model's tokens than max_tokens allows.

    A notice with their share and the largest; a problem where they are more than half. where: as for `check_room`.
    """
    formats: dict[tuple[int, int, int], list[str]] = {}
    for name in dict.fromkeys(reading.format for row in rows for reading in row.readings):
        texts = [reading.written for row in rows for reading in row.readings if reading.format == name]
        lengths = ruler.lengths(texts, special_tokens=False)
        over = sum(n > task.max_tokens for n in lengths)
        if over:
            formats.setdefault((over, len(lengths), max(lengths)), []).append(name)
    said = _limit_of(task)
    golds = f"gold answers of split {where!r}" if where else "golden answers"
    for (over, n, largest), names in formats.items():
        message = (
            f"{over} of {n} {golds} ({', '.join(names)}) have more tokens of {ruler.model} than "
            f"{'.'.join(map(str, said))} ({task.max_tokens}) allows, the largest {largest:,}{mode}"
        )
        if 2 * over > n:
            found.at(said, f"{message}: most answers would be cut")
        else:
            found.note(message)


def _limit_of(task: Task) -> Location:
    """Where task.yaml says how many tokens an answer may have."""
    if task.cot != "off" and task.spec.cot is not None and task.spec.cot.max_tokens is not None:
        return ("cot", "max_tokens")
    return ("generation", "max_tokens")


def check_extraction(task: Task, rows: Sequence[Written], where: str, mode: str, found: Findings) -> bool:
    """Finds gold answers that `cot.extract` finds nothing in, so that metrics would be handed the whole text.

    A metric may well find the answer there all the same. As with metrics, up to half of a split may be cut by a stop
    string, which is a notice. False if the pattern is so slow that nothing can be scored with it.
    """
    cot = task.spec.cot
    if cot is None or cot.extract is None or task.cot == "off":
        return True
    missed: dict[str, Reading] = {}
    for row in rows:
        for reading in row.readings:
            try:
                answer = extracted(cot.extract, reading.text)
            except ValueError as error:
                found.of_row("slow", found.document.problem(("cot", "extract"), str(error)), row.example.id)
                return False
            if answer is None:
                missed.setdefault(row.example.id, reading)
    cut = [item for item, reading in missed.items() if reading.stopped_by]
    if cut and where and 2 * len(cut) <= len(rows):
        which = f"{len(cut)} of {len(rows)} gold answers of split {where!r}"
        found.note(f"{which} are cut by a stop string before what cot.extract looks for ({cut[0]} first)")
        missed = {item: reading for item, reading in missed.items() if not reading.stopped_by}
    for item, reading in missed.items():
        after = f"; the stop string {reading.stopped_by!r} cuts it off" if reading.stopped_by else ""
        after += f" (format {reading.format})" if reading.format != "plain" else ""
        message = f"cot.extract finds nothing in the gold answer {short(reading.text)}{after}{mode}"
        found.of_row("extract", found.document.problem(("cot", "extract"), message), item)
    return True


def check_reasoning(task: Task, examples: Sequence[Example], where: str, found: Findings) -> None:
    """Notes how many rows have no reasoning although the mode asks for one. where: as for `check_room`."""
    bare = [example for example in examples if example.reasoning is not None and not example.reasoning.strip()]
    if bare:
        rows = f"rows of split {where!r}" if where else "golden rows"
        # The same words in every mode: what is told once is read.
        found.note(
            f"{len(bare)} of {len(examples)} {rows} have no reasoning; with a chain of thought, training teaches the "
            "bare answer"
        )
