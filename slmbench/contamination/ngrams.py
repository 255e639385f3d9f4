"""Runs of words that two sets of texts share: found by hashes of every run, held against the words themselves."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from attrs import frozen

from slmbench.values import Array

N_WORDS = 13
# Of a word that the index has never seen, and of the gap between two texts: no run with it can be shared.
UNKNOWN = 0
# A sign counts as a word before a digit, where 5 - 3 is not 5 + 3; everywhere else it is punctuation, and in runs too:
# thirteen signs and digits of a sum would be no text.
_SIGNS = "-+*/%^=<>"
_SIGN = -1
_SIGN_HERE = rf"[{re.escape(_SIGNS)}](?=\s*\d)"
_WORD = re.compile(rf"[^\W_]+|{_SIGN_HERE}")
# Thai, Lao, Burmese, Khmer, Japanese and Chinese set no blanks between words, so that a sentence would be one: there
# each character is a word, with the marks that stand on it.
_UNSPACED = (
    "\u0e01-\u0e4e\u0e81-\u0ecd\u1000-\u103f\u1780-\u17d3\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_MARKS = "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ecd\u102b-\u103e\u17b4-\u17d3"
_ANY_WORD = re.compile(rf"[{_UNSPACED}][{_MARKS}]*|[^\W_{_UNSPACED}]+|{_SIGN_HERE}")
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"))
_MULTIPLIER = 0x9E3779B97F4A7C15
_FILTER_BITS = 22


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case and NFKC, and the signs before its numbers; no other punctuation.

    Of scripts that set no blanks between words each character is one.
    """
    if text.isascii():
        return _WORD.findall(text.lower())
    return _ANY_WORD.findall(unicodedata.normalize("NFKC", text).translate(_DASHES).lower())


def normalised(text: str, words: list[str] | None = None) -> str:
    """What two texts have in common that are the same but for case, punctuation and white space: its words.

    A text without words is known by its signs. words: those of the text, if they are at hand.
    """
    return " ".join((words_of(text) if words is None else words) or text.split())


@frozen
class Vocabulary:
    """Word -> its number, from 1 on; signs have one together."""

    numbers: dict[str, int]
    words: list[str]

    def learn(self, words: Iterable[str]) -> list[int]:
        """The words' numbers; new words get one."""
        numbers = self.numbers
        found = []
        for word in words:
            number = numbers.get(word)
            if number is None:
                number = numbers[word] = len(self.words)
                self.words.append(word)
            found.append(number)
        return found


def new_vocabulary() -> Vocabulary:
    """One that has no word yet."""
    return Vocabulary(dict.fromkeys(_SIGNS, _SIGN), [""])


@frozen
class Runs:
    """All runs of N_WORDS words of some texts. ids: (total,) int32, the texts one after the other, UNKNOWN between.

    starts: (runs,) int64, where in ids each run begins; hashes: (runs,) uint64; texts: (runs,) int64, whose it is.
    """

    ids: Array
    starts: Array
    hashes: Array
    texts: Array


def runs_of(texts: Sequence[Sequence[int]], hash_bits: int = 64) -> Runs:
    """The runs of texts given as word numbers. hash_bits: fewer of them only if a test wants collisions."""
    import numpy as np

    flat: list[int] = []
    ends = np.zeros(len(texts), np.int64)
    for i, text in enumerate(texts):
        flat += text
        flat.append(UNKNOWN)
        ends[i] = len(flat)
    ids = np.array(flat, np.int32)
    signs = np.concatenate(([0], np.cumsum(ids == _SIGN)))
    ids, ends = ids[ids != _SIGN], ends - signs[ends]
    n = max(0, len(ids) - N_WORDS + 1)
    unknown = np.concatenate(([0], np.cumsum(ids == UNKNOWN)))
    starts = np.flatnonzero(unknown[N_WORDS : N_WORDS + n] == unknown[:n])
    values = _scattered(ids)
    hashes = np.zeros(n, np.uint64)
    for offset in range(N_WORDS):
        hashes *= np.uint64(_MULTIPLIER)
        hashes += values[offset : offset + n]
    # A product's low bits know its factors' low bits alone, and the index looks at the low ones first.
    hashes ^= hashes >> np.uint64(29)
    if hash_bits < 64:
        hashes &= np.uint64((1 << hash_bits) - 1)
    return Runs(ids, starts, hashes[starts], np.searchsorted(ends, starts, side="right"))


@frozen
class RunIndex:
    """The distinct runs of the texts of one evaluation split.

    hashes: (distinct,) uint64, ascending; firsts: (distinct,) int64, where in ids the run first begins; items:
    (distinct,) int64, the text in which it does; counts: (distinct,) int64, how many texts have it. seen: (2 ** 22,)
    bool, the hashes' low bits, which turn nearly all strange runs away. deepest: the most distinct runs of one hash.
    """

    ids: Array
    hashes: Array
    firsts: Array
    items: Array
    counts: Array
    seen: Array
    deepest: int


def build_index(texts: Sequence[Sequence[int]], hash_bits: int = 64) -> RunIndex:
    """The index of texts given as word numbers."""
    import numpy as np

    runs = runs_of(texts, hash_bits)
    order = np.argsort(runs.hashes, kind="stable")
    order = _collisions_apart(runs, order)
    hashes, starts, of = runs.hashes[order], runs.starts[order], runs.texts[order]
    n = len(order)
    new = np.ones(n, bool)
    if n:
        new[1:] = (hashes[1:] != hashes[:-1]) | ~_alike(runs.ids, starts[1:], runs.ids, starts[:-1])
    group = np.cumsum(new) - 1
    # Within a group texts are in their order, so a text's second occurrence stands behind its first.
    again = np.zeros(n, bool)
    again[1:] = ~new[1:] & (of[1:] == of[:-1])
    counts = np.bincount(group[~again], minlength=int(new.sum()))
    distinct = hashes[new]
    seen = np.zeros(1 << _FILTER_BITS, bool)
    seen[(distinct & np.uint64((1 << _FILTER_BITS) - 1)).astype(np.int64)] = True
    deepest = int(np.unique(distinct, return_counts=True)[1].max()) if n else 0
    return RunIndex(runs.ids, distinct, starts[new], of[new], counts, seen, deepest)


def shared_runs(index: RunIndex, runs: Runs) -> tuple[Array, Array]:
    """(places in runs, places in the index) of the runs that both have, word for word."""
    import numpy as np

    low = (runs.hashes & np.uint64((1 << _FILTER_BITS) - 1)).astype(np.int64)
    mine = np.flatnonzero(index.seen[low])
    theirs = np.searchsorted(index.hashes, runs.hashes[mine])
    found_mine, found_theirs = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for _ in range(index.deepest):
        there = theirs < len(index.hashes)
        mine, theirs = mine[there], theirs[there]
        same = index.hashes[theirs] == runs.hashes[mine]
        mine, theirs = mine[same], theirs[same]
        real = _alike(runs.ids, runs.starts[mine], index.ids, index.firsts[theirs])
        found_mine.append(mine[real])
        found_theirs.append(theirs[real])
        mine, theirs = mine[~real], theirs[~real] + 1
    return np.concatenate(found_mine), np.concatenate(found_theirs)


def near(places: Array, others: Array, distance: int) -> Array:
    """(places,) bool: whether one of others lies at most so far from it."""
    import numpy as np

    if not len(others):
        return np.zeros(len(places), bool)
    others = np.sort(others)
    after = np.searchsorted(others, places)
    below, above = others[np.maximum(after - 1, 0)], others[np.minimum(after, len(others) - 1)]
    return np.minimum(np.abs(places - below), np.abs(above - places)) <= distance


def _collisions_apart(runs: Runs, order: Array) -> Array:
    """The order by hash, runs of one hash that are not the same words sorted by their words."""
    import numpy as np

    hashes, starts = runs.hashes[order], runs.starts[order]
    if len(order) < 2:
        return order
    clash = (hashes[1:] == hashes[:-1]) & ~_alike(runs.ids, starts[1:], runs.ids, starts[:-1])
    if not clash.any():
        return order
    places = np.flatnonzero(np.isin(hashes, hashes[1:][clash]))
    words = runs.ids[starts[places][:, None] + np.arange(N_WORDS)]
    keys = (starts[places], *(words[:, i] for i in range(N_WORDS)), hashes[places])
    order = order.copy()
    order[places] = order[places][np.lexsort(keys)]
    return order


def _alike(ids: Array, starts: Array, other_ids: Array, other_starts: Array) -> Array:
    """(pairs,) bool: whether the runs that begin there are the same words."""
    import numpy as np

    same = np.ones(len(starts), bool)
    for offset in range(N_WORDS):
        same &= ids[starts + offset] == other_ids[other_starts + offset]
    return same


def _scattered(ids: Array) -> Array:
    """Each number's own 64 bits (splitmix64), so that neighbouring numbers make no neighbouring hashes."""
    import numpy as np

    x = ids.astype(np.uint64) * np.uint64(_MULTIPLIER)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
