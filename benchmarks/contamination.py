"""The contamination check on 100,000 training rows against 20,000 evaluated items, with overlaps that were put there.

    python benchmarks/contamination.py [ROWS ITEMS]

Texts of 120 words on average, drawn by Zipf's law from 50,000 words. Told: seconds, peak memory of the whole
process, every planted row found and no other, and a part of the rows against sets of tuples of words.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections import Counter
from itertools import accumulate

from slmbench.contamination.ngrams import N_WORDS
from slmbench.contamination.overlaps import BOILERPLATE_ITEMS, BOILERPLATE_PART, RowText, find_contamination
from slmbench.machine import peak_memory_bytes

ROWS, ITEMS = 100_000, 20_000
LIMIT_S, LIMIT_BYTES = 60.0, 1_000_000_000
ORACLE_ROWS, ORACLE_ITEMS = 4_000, 1_000
VOCABULARY = 50_000
PLANTED = {"exact": 97, "normalised": 89, "ngram": 83}


def made_up(seed: str, n: int) -> list[RowText]:
    """n rows: a question of 20 to 180 words, an answer of 3 to 37; one in twenty says what many say."""
    chance = random.Random(seed)
    words = [f"w{i:x}" for i in range(VOCABULARY)]
    weights = list(accumulate(1 / (i + 3) for i in range(VOCABULARY)))
    pool = chance.choices(words, cum_weights=weights, k=1_000_000)
    asked = "Answer the question below in one sentence and say which part of the text it is taken from"

    def text(low: int, high: int) -> str:
        size, at = chance.randint(low, high), chance.randrange(len(pool) - high)
        some = pool[at : at + size]
        chance.shuffle(some)
        return " ".join(some)

    rows = []
    for i in range(n):
        opening = f"{asked}: " if i % 20 == 0 else ""
        rows.append(RowText(f"{seed}-{i}", opening + text(20, 180), text(3, 37)))
    return rows


def plant(rows: list[RowText], items: list[RowText]) -> dict[str, set[int]]:
    """Puts overlaps into rows, and says which ones."""
    chance = random.Random("planted")
    places = iter(chance.sample(range(len(rows)), sum(PLANTED.values())))
    planted: dict[str, set[int]] = {level: set() for level in PLANTED}
    for level, n in PLANTED.items():
        for _ in range(n):
            place, item = next(places), chance.choice(items)
            row = rows[place]
            if level == "exact":
                rows[place] = RowText(row.id, item.prompt, row.answer)
            elif level == "normalised":
                rows[place] = RowText(row.id, f"  {item.prompt.upper().replace(' ', ', ')}?", row.answer)
            else:
                words = item.prompt.split()
                run = " ".join(words[-N_WORDS:])
                rows[place] = RowText(row.id, f"{row.prompt} {run.title()}", row.answer)
            planted[level].add(place)
    return planted


def oracle(rows: list[RowText], items: list[RowText]) -> set[int]:
    """Rows that share a whole prompt or a run with an item, by sets of tuples."""

    def words(text: RowText) -> list[str]:
        return re.findall("[a-z0-9]+", f"{text.prompt} {text.answer}".lower())

    def runs(text: RowText) -> list[tuple[str, ...]]:
        every = words(text)
        return [tuple(every[i : i + N_WORDS]) for i in range(len(every) - N_WORDS + 1)]

    times = Counter(run for item in items for run in set(runs(item)))
    common = max(BOILERPLATE_ITEMS, int(len(items) * BOILERPLATE_PART) + 1)
    prompts = {" ".join(re.findall("[a-z0-9]+", item.prompt.lower())) for item in items}
    found = set()
    for i, row in enumerate(rows):
        counts = [times[run] for run in runs(row)]
        asked = [at for at, n in enumerate(counts) if n >= common]
        rare = (at for at, n in enumerate(counts) if 0 < n < common)
        own = any(all(abs(at - other) > N_WORDS // 2 for other in asked) for at in rare)
        if own or " ".join(re.findall("[a-z0-9]+", row.prompt.lower())) in prompts:
            found.add(i)
    return found


def main() -> None:
    n_rows, n_items = (int(text) for text in sys.argv[1:3]) if len(sys.argv) > 2 else (ROWS, ITEMS)
    rows, items = made_up("train", n_rows), made_up("test", n_items)
    planted = plant(rows, items)
    before = peak_memory_bytes()
    start = time.perf_counter()
    (overlap,) = find_contamination({"made up": rows}, {"made up/test": items}).overlaps
    seconds = time.perf_counter() - start
    peak = peak_memory_bytes()
    print(f"rows: {n_rows}, items: {n_items}, words a row: {sum(len(row.prompt.split()) for row in rows) / n_rows:.0f}")
    print(f"seconds: {seconds:.1f} (at most {LIMIT_S:.0f})")
    print(f"peak memory: {peak / 1e6:.0f} MB of the process, {(peak - before) / 1e6:.0f} MB of it by the check "
          f"(at most {LIMIT_BYTES / 1e6:.0f})")  # fmt: skip
    found = {level: set(overlap.rows[level]) for level in PLANTED}
    for level, places in planted.items():
        print(f"{level}: {len(found[level])} found, {len(places)} planted, {len(found[level] ^ places)} different")
    print(f"boilerplate: {overlap.boilerplate} rows kept")
    some, few = rows[:ORACLE_ROWS], items[:ORACLE_ITEMS]
    few += [item for item in items[ORACLE_ITEMS:] if any(item.prompt == row.prompt for row in some)]
    (part,) = find_contamination({"part": some}, {"part": few}).overlaps
    ours = {row for places in part.rows.values() for row in places}
    expected = oracle(some, few)
    print(
        f"by sets of tuples, {len(some)} rows, {len(few)} items: {len(expected)} rows, {len(ours ^ expected)} different"
    )
    wrong = any(found[level] != planted[level] for level in PLANTED) or ours != expected or not expected
    sys.exit(wrong or seconds > LIMIT_S or peak > LIMIT_BYTES)


if __name__ == "__main__":
    main()
