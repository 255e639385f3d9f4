"""Free prompts: what each row of a leaderboard wrote to them, side by side, with what can be counted of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import islice
from pathlib import Path

from attrs import frozen

from slmbench.errors import FileError
from slmbench.foreign import plain_lines
from slmbench.leaderboard._samples import without_texts
from slmbench.leaderboard.table import Leaderboard
from slmbench.leaderboard.texts import number
from slmbench.runs import SAMPLES, read_sample
from slmbench.task import PROMPTS
from slmbench.values import JsonObject

MOST_PROMPTS = 40
MOST_ROWS = 16
MOST_CHARS = 6_000
_COUNTED = {"distinct_1": "distinct-1", "distinct_2": "distinct-2", "repeated_4grams": "repeated 4-grams"}


@frozen
class FreeAnswer:
    """What one row wrote. counted: (name, value) of length and repetition. left_out: characters of the text."""

    row: str
    text: str
    counted: tuple[tuple[str, str], ...]
    left_out: int = 0


@frozen
class AnsweredPrompt:
    """A prompt as it was sent, and what each row of the leaderboard wrote to it, in its order."""

    prompt: str
    answers: tuple[FreeAnswer, ...]


def answered_prompts(
    board: Leaderboard, folders: Mapping[str, Path], no_texts: Collection[str] = ()
) -> list[AnsweredPrompt]:
    """The first MOST_PROMPTS prompts, each with the answers of the first MOST_ROWS rows that have one.

    folders: run's id -> its folder. no_texts: ids of runs whose texts are withheld. A prompt that rows were sent in
    several forms (a chat's, a plain one) is shown once a form. A run whose samples can't be read any more is left out.
    """
    keys = [column.key for column in board.columns if column.task == PROMPTS]
    found: dict[str, list[FreeAnswer]] = {}
    for row in [row for row in board.rows if any(one in row.cells for one in keys)][:MOST_ROWS]:
        ids = dict.fromkeys(run_id for one in keys if one in row.cells for run_id in row.cells[one].run_ids)
        for run_id in ids:
            for sample in _samples(folders[run_id], run_id in no_texts) if run_id in folders else ():
                found.setdefault(sample["prompt"], []).append(_answer(row.name, sample))
    return [AnsweredPrompt(prompt, tuple(answers)) for prompt, answers in list(found.items())[:MOST_PROMPTS]]


def _samples(folder: Path, withheld: bool) -> list[JsonObject]:
    path = folder / SAMPLES
    try:
        # A file of somebody's own may have any number of prompts.
        lines = islice(plain_lines(path), MOST_PROMPTS)
        read = [read_sample(line, path, place) for place, line in enumerate(lines, 1)]
    except (OSError, FileError):
        return []
    return [without_texts(one) for one in read] if withheld else read


def _answer(row: str, sample: JsonObject) -> FreeAnswer:
    counted = [("tokens", str(sample.get("tokens_out", "")))]
    counted += [(told, number(sample["scores"][name])) for name, told in _COUNTED.items() if name in sample["scores"]]
    if sample.get("finish_reason") == "length":
        counted.append(("ended", "at max_tokens"))
    text = sample.get("output") or ""
    return FreeAnswer(row, text[:MOST_CHARS], tuple(counted), max(0, len(text) - MOST_CHARS))
