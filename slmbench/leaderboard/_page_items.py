"""The items of every condition as data files: what was asked, what each run wrote, in blocks that load in a moment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from slmbench.errors import FileError
from slmbench.foreign import plain_lines
from slmbench.leaderboard._page_files import Put, put_data
from slmbench.leaderboard._records import ScoredRun
from slmbench.leaderboard._samples import without_texts
from slmbench.runs import SAMPLES, item_hash, read_sample
from slmbench.values import JsonObject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Samples whose texts a page has: all if there are no more, else the same number of each run, at least so many.
SAMPLES_SHOWN = 48_000
LEAST_OF_A_RUN = 10
# Longer texts are cut in the middle: a prompt's start has its shots, its end has the question.
HEAD_CHARS = 1500
TAIL_CHARS = 3000
GLIMPSE_CHARS = 64
_BLOCK_BYTES = 250_000
# Items whose texts are left out are picked among so many times as many, the first ones: what is behind isn't read.
_PICKED_OF = 12


@frozen
class PagedItems:
    """One condition's items on a page. name: of its data file. wrote: run id -> the data files of what the run wrote.

    order: the items' hashes, in the order of the scores on the page. clustered: whether some belong together. verdicts:
    run id -> what a sandbox said of programs, and which of these of each item that has texts.
    """

    name: str
    order: NDArray[np.uint64]
    clustered: bool
    wrote: Mapping[str, Sequence[str]]
    verdicts: Mapping[str, tuple[list[str], list[int | None]]]


def samples_of_a_run(runs: Sequence[ScoredRun]) -> int | None:
    """How many items of each run a page has texts of; None: all."""
    if sum(run.n_samples for run in runs) <= SAMPLES_SHOWN:
        return None
    return max(LEAST_OF_A_RUN, SAMPLES_SHOWN // len(runs))


def paged_items(runs: Sequence[ScoredRun], metric: str, most: int | None, put: Put) -> PagedItems:
    """The items of the runs of one condition. metric: its primary one. most: how many items have texts, None for all.

    Items whose texts are there are those that a reader opens first: the ones that runs differ in most, some that most
    fail, some that most solve. Texts come from the first run that shows its own; each keeps to itself what it must.
    """
    first = next((run for run in runs if not run.no_texts), runs[0])
    order, clusters = first.items.items, first.items.clusters
    picked = _picked(runs, first, metric, most) if most is not None and most < len(order) else None
    per = _items_in_a_block(runs, len(order))
    told = _told(first)
    positions = picked if picked is not None else list(range(len(order)))
    asked = _blocks([told.asked.get(int(order[at]), ["", "", [], None, None]) for at in positions], per)
    wrote, verdicts = {}, {}
    for run in runs:
        # The run that the questions come from has been read already.
        read = told if run is first else _told(run, {int(order[at]) for at in positions})
        if read.verdicts:
            names = sorted(set(read.verdicts.values()))
            said = [read.verdicts.get(int(order[at])) for at in positions]
            verdicts[run.run_id] = names, [None if one is None else names.index(one) for one in said]
        parts = _blocks([read.wrote.get(int(order[at]), []) for at in positions], per)
        wrote[run.run_id] = [put_data(put, "wrote", part) for part in parts]
    content = {
        "ids": [told.ids.get(int(item), f"item {at}") for at, item in enumerate(order, 1)],
        "glimpses": [told.glimpses.get(int(item), "") for item in order],
        "clusters": None if clusters is None else _small(clusters),
        "texts": picked,
        "per": per,
        "asked": [put_data(put, "asked", part) for part in asked],
    }
    return PagedItems(put_data(put, "items", content), order, clusters is not None, wrote, verdicts)


@frozen
class _Told:
    """What a run's samples say of its items, by an item's hash: its id, how its own part of the prompt begins, what was
    asked, what was written (one a sample), and what a sandbox said of the first."""

    ids: dict[int, str]
    glimpses: dict[int, str]
    asked: dict[int, list[object]]
    wrote: dict[int, list[list[object]]]
    verdicts: dict[int, str]


def _told(run: ScoredRun, wanted: set[int] | None = None) -> _Told:
    """wanted: the items that are read, of which what was asked is known; None for all. Nothing of a run whose samples
    have gone or changed."""
    told = _Told({}, {}, {}, {}, {})
    same: str | None = None
    ends: dict[int, tuple[int, str]] = {}
    try:
        for item, sample in _samples(run, wanted):
            if wanted is None and item not in told.asked:
                prompt = str(sample.get("prompt") or "")
                told.ids[item] = str(sample["item_id"])
                same = prompt if same is None else _common_start(same, prompt)
                ends[item] = max(0, len(prompt) - TAIL_CHARS), prompt[-TAIL_CHARS:]
                others = [text for text in sample.get("references") or [] if text != sample.get("target")][:5]
                choices = sample.get("choices")
                told.asked[item] = [
                    _clipped(prompt),
                    _clipped(sample.get("target")),
                    [_clipped(text) for text in others],
                    [_clipped(choice) for choice in choices] if choices else None,
                    sample.get("gold"),
                ]
            if isinstance(verdict := sample.get("verdict"), str):
                told.verdicts.setdefault(item, verdict)
            told.wrote.setdefault(item, []).append(_written(sample))
    except (OSError, FileError):
        return _Told({}, {}, {}, {}, {})
    told.glimpses.update((item, _glimpse(end, len(same or "") - before)) for item, (before, end) in ends.items())
    return told


def _common_start(same: str, text: str) -> str:
    """What both start with, up to the start of a word."""
    if text.startswith(same):
        return same
    low, high = 0, min(len(same), len(text))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text.startswith(same[:middle]) else (low, middle - 1)
    while low and not same[low - 1].isspace():
        low -= 1
    return same[:low]


def _samples(run: ScoredRun, wanted: set[int] | None) -> Iterator[tuple[int, JsonObject]]:
    """(an item's hash, its sample), as pages may show it."""
    path = run.folder / SAMPLES
    for number, line in _lines(run, wanted):
        sample = read_sample(line, path, number)
        item = item_hash(str(sample["item_id"]))
        if wanted is None or item in wanted:
            yield item, without_texts(sample) if run.no_texts else sample


def _lines(run: ScoredRun, wanted: set[int] | None) -> Iterator[tuple[int, bytes]]:
    """(number, line) of a run's samples; of a run with one line an item, those that nobody looks at are passed over."""
    path = run.folder / SAMPLES
    items = run.items.items.tolist()
    if wanted is None or len(items) != run.n_samples:
        yield from enumerate(plain_lines(path), 1)
        return
    left = len(wanted)
    for number, (item, line) in enumerate(zip(items, plain_lines(path), strict=False), 1):
        if item in wanted:
            yield number, line
            left -= 1
            if not left:
                return


def _written(sample: JsonObject) -> list[object]:
    """[output, [(term, words)], log-likelihoods] of one sample."""
    scored = []
    told = {"ended by": "finish_reason", "verdict": "verdict", "why": "verdict_detail"}
    for term, key in {**told, "not in its format": "format_fault"}.items():
        if (said := sample.get(key)) is not None and not isinstance(said, (dict, list)):
            scored.append([term, _clipped(said)])
    tokens = [sample.get("tokens_in"), sample.get("tokens_out")]
    if None not in tokens:
        scored.append(["tokens", f"{tokens[0]} in, {tokens[1]} out"])
    if isinstance(likely := sample.get("target_loglikelihood"), float):
        scored.append(["target's log-likelihood", f"{likely:.4f}"])
    if alone := sample.get("sample_scores"):
        said = (f"{name} {value:.3f}" for name, value in alone.items() if value is not None)
        scored.append(["this sample alone", ", ".join(said)])
    if "adapter" in sample:
        scored.append(["answered by", str(sample["adapter"] or "the base")])
    output = _clipped(sample.get("output"))
    known = sample.get("loglikelihoods")
    return [output, scored, [round(value, 4) for value in known]] if known else [output, scored]


def _picked(runs: Sequence[ScoredRun], first: ScoredRun, metric: str, most: int) -> list[int]:
    """Positions among the first items of `first`, rising."""
    import numpy as np

    same = [run for run in runs if np.array_equal(run.items.items, first.items.items) and metric in run.items.scores]
    if not same:
        return list(range(most))
    among = most * _PICKED_OF
    scores = np.array([run.items.scores[metric][:among] for run in same], dtype=np.float64)  # (runs, items)
    scores = np.nan_to_num(scores)
    mean, spread = scores.mean(axis=0), scores.std(axis=0)
    up = next(one.higher_is_better for one in same[0].metrics if one.name == metric)
    hardest = np.argsort(mean if up else -mean, kind="stable").tolist()
    told = dict.fromkeys(np.argsort(-spread, kind="stable").tolist()[: most * 7 // 10])
    for item in hardest:
        if len(told) >= most * 9 // 10:
            break
        told[item] = None
    for item in reversed(hardest):
        if len(told) >= most:
            break
        told[item] = None
    return sorted(told)


def _items_in_a_block(runs: Sequence[ScoredRun], items: int) -> int:
    """So many that what one run wrote of them is about as long as a block should be."""
    sizes = []
    for run in runs[:8]:
        try:
            sizes.append(os.path.getsize(run.folder / SAMPLES) / max(items, 1))
        except OSError:
            continue
    return max(1, min(400, int(_BLOCK_BYTES / max(max(sizes, default=1000), 1))))


def _blocks(parts: Sequence[object], per: int) -> list[list[object]]:
    return [list(parts[start : start + per]) for start in range(0, len(parts), per)]


def _small(clusters: NDArray[np.int64]) -> list[int]:
    """Clusters by small numbers, in order of appearance: a hash of a label could be found by trying labels."""
    known: dict[int, int] = {}
    return [label if label < 0 else known.setdefault(label, len(known)) for label in clusters.tolist()]


def _glimpse(end: str, start: int) -> str:
    """The start of what is a prompt's own. end: of the prompt. start: of what the others don't have, in `end`."""
    words = " ".join(end[max(0, start) :].split() or end.split())
    return words if len(words) <= GLIMPSE_CHARS else words[: GLIMPSE_CHARS - 1] + "\u2026"


def _clipped(value: object) -> str:
    shown = "" if value is None else str(value)
    if len(shown) > HEAD_CHARS + TAIL_CHARS + 100:
        left_out = len(shown) - HEAD_CHARS - TAIL_CHARS
        note = f"\n[\u2026 {left_out} characters are left out here; {SAMPLES} has them \u2026]\n"
        shown = shown[:HEAD_CHARS] + note + shown[-TAIL_CHARS:]
    return shown.replace("\r\n", "\n")
