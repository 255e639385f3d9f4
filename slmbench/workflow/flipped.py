"""The items on which two runs differ most: those that one alone got right, with what both wrote."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from attrs import field, frozen

from slmbench.errors import FileError
from slmbench.leaderboard import ScoredRun, read_samples
from slmbench.runs import item_hash
from slmbench.values import JsonObject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WITHHELD = "its texts are kept to itself: items are not shown"


@frozen
class ItemSide:
    """What one run has of an item. told: how the answer ended, or what became of a program: each a text."""

    score: float
    prompt: str
    output: str
    told: tuple[str, ...] = ()


@frozen
class DifferingItem:
    """One item on which the runs differ."""

    item_id: str
    target: str
    a: ItemSide
    b: ItemSide


@frozen
class DifferingItems:
    """Of one task's primary metric. binary: whether all scores are right or wrong.

    both, neither: items right or wrong in both runs, 0 of other scores. a_only, b_only: ids of the items that one alone
    got right; of other scores, empty. shown: some items, the largest losses and gains by turns. fault: why there are no
    texts; '' if there are.
    """

    binary: bool = False
    both: int = 0
    neither: int = 0
    a_only: tuple[str, ...] = field(default=(), repr=False)
    b_only: tuple[str, ...] = field(default=(), repr=False)
    shown: tuple[DifferingItem, ...] = ()
    fault: str = ""


def differing_items(
    a: ScoredRun,
    b: ScoredRun,
    items: NDArray[np.uint64],
    scores: tuple[NDArray[np.floating], NDArray[np.floating]],
    metric: str,
    *,
    higher_is_better: bool,
    most: int,
    withheld: bool,
) -> DifferingItems:
    """items: (n,), hashes of the ids that both have. scores: (n,) of each run, of `metric`. most: so many are shown."""
    import numpy as np

    one, other = scores
    there = np.isfinite(one) & np.isfinite(other)
    binary = bool(np.isin(one[there], (0, 1)).all() and np.isin(other[there], (0, 1)).all())
    right, wrong = (1, 0) if higher_is_better else (0, 1)
    both = int((there & (one == right) & (other == right)).sum()) if binary else 0
    neither = int((there & (one == wrong) & (other == wrong)).sum()) if binary else 0
    if withheld:
        return DifferingItems(binary, both, neither, fault=WITHHELD)
    gains = np.where(there, (other - one) * (1 if higher_is_better else -1), 0.0)
    order = np.argsort(gains, kind="stable")
    losses = [int(i) for i in order if gains[i] < 0]
    wins = [int(i) for i in np.argsort(-gains, kind="stable") if gains[i] > 0]
    few = max(most - min(len(wins), most // 2), most // 2)
    lost = losses[:few]
    turns = [lost, wins[: most - len(lost)]]
    picked = [part[i] for i in range(most) for part in turns if i < len(part)][:most]
    named = {int(items[i]) for i in (*losses, *wins)} if most or binary else set()
    rises = {int(items[i]): bool(other[i] > one[i]) for i in picked}
    try:
        ids, texts = _samples_of(a, b, named, metric, rises)
    except (OSError, FileError):
        return DifferingItems(binary, both, neither, fault="their samples can't be read any more")
    shown = []
    for i in picked:
        found = texts.get(int(items[i]), {})
        if found.keys() == {0, 1}:
            sides = [_side(found[which], float(scores[which][i])) for which in (0, 1)]
            shown.append(DifferingItem(str(found[0]["item_id"]), str(found[0].get("target") or ""), *sides))
    a_only, b_only = (
        tuple(ids[int(items[i])] for i in sorted(part) if int(items[i]) in ids) if binary else ()
        for part in (losses, wins)
    )
    return DifferingItems(binary, both, neither, a_only, b_only, tuple(shown))


def same_targets(a: ScoredRun, b: ScoredRun, items: NDArray[np.uint64]) -> NDArray[np.intp]:
    """The positions of the items whose target is the same in both runs. Raises OSError, FileError."""
    import numpy as np

    targets = [{item_hash(sample["item_id"]): _target(sample) for sample in read_samples(run)} for run in (a, b)]
    same = [i for i, item in enumerate(items.tolist()) if targets[0].get(item) == targets[1].get(item)]
    return np.asarray(same, dtype=np.intp)


def _target(sample: JsonObject) -> object:
    return sample.get("target"), sample.get("references")


def _samples_of(
    a: ScoredRun, b: ScoredRun, named: Collection[int], metric: str, rises: Mapping[int, bool]
) -> tuple[dict[int, str], dict[int, dict[int, JsonObject]]]:
    """(hash -> id of the items named, hash -> which run -> its sample of an item in `rises`).

    rises: hash -> whether b has the higher score. Of an item with several samples, the one that shows it best is taken:
    the first lowest of the run that has the lower score, the first highest of the other.
    """
    ids: dict[int, str] = {}
    texts: dict[int, dict[int, JsonObject]] = {}
    for which, run in enumerate((a, b)):
        best: dict[int, float] = {}
        for sample in read_samples(run) if named else ():
            item = item_hash(sample["item_id"])
            if item in named:
                ids[item] = str(sample["item_id"])
            if item in rises and (score := (sample.get("sample_scores") or sample["scores"]).get(metric)) is not None:
                signed = score if rises[item] == (which == 1) else -score
                if signed > best.get(item, -math.inf):
                    best[item] = signed
                    texts.setdefault(item, {})[which] = sample
    return ids, texts


def _side(sample: JsonObject, score: float) -> ItemSide:
    output = str(sample.get("output") or "")
    said = [] if output.strip() else ["nothing written"]
    said += [str(sample[key]) for key in ("verdict", "verdict_detail", "format_fault") if sample.get(key)]
    if sample.get("finish_reason") == "length":
        said.append("cut at max_tokens")
    return ItemSide(score, str(sample.get("prompt") or ""), output, tuple(said))
