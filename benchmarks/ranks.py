"""How often ranks and bests of a column claim what isn't so, and how long all pairs of a large column take.

python benchmarks/ranks.py [--tables 1000]

Three parts, every draw seeded. 20 identical models: the share of tables in which some pair is told apart, beside pairs
tested one by one without a correction (scipy's paired t), and for clusters beside CR0 with clusters - 1 degrees of
freedom. The truly best of several: how often it is left out of the best, how many others are kept in, beside those of
rank 1 after Holm. 1,000 models x 10,000 items: seconds of all pairs at once, beside one pair item by item and beside
scipy's paired t, times the number of pairs. Exits with 1 if more than 5% of tables, and what chance adds to that, err.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable

import numpy as np
from scipy import stats

from slmbench.statistics.columns import compare_column
from slmbench.statistics.significance import paired_p

MODELS = 20
ALPHA = 0.05


def uneven(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.maximum(1, np.round(np.exp(rng.normal(1.5, 1.2, count)))).astype(int)


def t_of_pairs(scores: np.ndarray, cluster: np.ndarray | None) -> np.ndarray:
    """p of every pair by the paired t, or CR0 and t(clusters - 1); scores: (models, items)."""
    first, second = np.triu_indices(len(scores), 1)
    d = scores[first] - scores[second]
    n, mean = d.shape[1], d.mean(1)
    if cluster is None:
        sums, groups = d - mean[:, None], n
    else:
        groups = int(cluster.max()) + 1
        sums = np.stack([np.bincount(cluster, row, groups) for row in d - mean[:, None]])
    error = np.sqrt((sums**2).sum(1)) / n
    return 2 * stats.t.sf(np.abs(mean / np.where(error > 0, error, np.inf)), groups - 1)


def identical(tables: int) -> bool:
    def right(rng: np.random.Generator, n: int) -> np.ndarray:
        return (rng.normal(0, 1.2, n) + rng.normal(size=(MODELS, n)) > 0.3).astype(float)

    def rouge(rng: np.random.Generator, n: int) -> np.ndarray:
        easy = rng.beta(2, 8, n)
        return np.clip(easy + rng.normal(0, 0.1, (MODELS, n)), 0, 1)

    kinds: list[tuple[str, Callable[[np.random.Generator, int], np.ndarray], int, int]] = [
        ("right or wrong, 30 items", right, 30, 0),
        ("right or wrong, 164 items", right, 164, 0),
        ("right or wrong, 1,319 items", right, 1319, 0),
        ("ROUGE-like, 100 items", rouge, 100, 0),
        ("ROUGE-like, 1,000 items", rouge, 1000, 0),
        ("scores, 5 uneven clusters", right, 0, 5),
        ("scores, 10 uneven clusters", right, 0, 10),
        ("scores, 30 uneven clusters", right, 0, 30),
        ("scores, 50 uneven clusters", right, 0, 50),
    ]
    print(f"{MODELS} identical models, share of {tables} tables (of clusters {tables // 4}); goal: at most 5%")
    print("                                ours: some pair   a model isn't best   any isn't    uncorrected")
    held = True
    for name, draw, n, clusters in kinds:
        rng = np.random.default_rng(n + clusters)
        pairs = one = some = naive = 0
        count = tables // 4 if clusters else tables
        for _ in range(count):
            cluster = np.repeat(np.arange(clusters), uneven(rng, clusters)) if clusters else None
            if cluster is None:
                scores = draw(rng, n)
            else:
                shared = rng.normal(0, 0.7, (MODELS, clusters))[:, cluster]
                scores = shared + rng.normal(size=(MODELS, len(cluster)))
            found = compare_column(scores, higher_is_better=True, clusters=cluster)
            pairs += any((rank.low, rank.high) != (1, MODELS) for rank in found.ranks)
            one += not found.best[0]
            some += not all(found.best)
            naive += bool((t_of_pairs(scores, cluster) < ALPHA).any())
        held &= pairs / count <= ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / count)
        told = f"{pairs / count:14.3f} {one / count:19.3f} {some / count:13.3f} {naive / count:13.3f}"
        print(f"{name:30s} {told}", flush=True)
    return held


def the_best(tables: int) -> bool:
    print("\nThe truly best model, right or wrong items: left out of the best; how many are kept, of how many models")
    print("                                                 left out   best   of rank 1")
    held = True
    settings = {
        "20 models, one by one .01 apart": np.linspace(0.5, 0.31, 20),
        "20 models, one ahead of 19 equal by .02": np.array([0.5, *[0.48] * 19]),
        "20 models, two at the top, 18 at -.2": np.array([0.5, 0.499, *[0.3] * 18]),
        "5 models, .02 apart": np.linspace(0.5, 0.42, 5),
        "100 models, .003 apart": np.linspace(0.5, 0.2, 100),
    }
    for name, means in settings.items():
        for n in (164, 1319):
            rng = np.random.default_rng(n)
            out = kept = first = 0
            bar = stats.norm.ppf(means)[:, None] * math.sqrt(1 + 1.2**2)
            for _ in range(tables):
                latent = rng.normal(0, 1.2, n) + rng.normal(size=(len(means), n))
                found = compare_column((latent < bar).astype(float), higher_is_better=True)
                out += not found.best[0]
                kept += sum(found.best)
                first += sum(rank.low == 1 for rank in found.ranks)
            held &= out / tables <= ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / tables)
            told = f"{out / tables:8.3f} {kept / tables:6.1f} {first / tables:11.1f}"
            print(f"{name:40s} {n:5d} items {told} of {len(means)}", flush=True)
    return held


def seconds(models: int = 1000, items: int = 10_000) -> None:
    rng = np.random.default_rng(0)
    latent = rng.normal(size=items) + rng.normal(size=(models, items)) + np.linspace(-0.3, 0.3, models)[:, None]
    pairs = models * (models - 1) // 2
    print(
        f"\nAll pairs of {models:,} models x {items:,} items ({pairs:,} pairs), float32 scores, one thread or as many"
    )
    for name, scores in (
        ("right or wrong", (latent > 0).astype(np.float32)),
        ("real scores", (1 / (1 + np.exp(-latent))).astype(np.float32)),
    ):
        begun = time.perf_counter()
        compare_column(scores, higher_is_better=True)
        ours = time.perf_counter() - begun
        one, other = ({str(i): float(value) for i, value in enumerate(row)} for row in scores[[0, 1]])
        begun = time.perf_counter()
        paired_p(one, other)
        scalar = time.perf_counter() - begun
        begun = time.perf_counter()
        stats.ttest_rel(scores[0], scores[1])
        theirs = time.perf_counter() - begun
        told = (
            f"{ours:.2f} s; item by item {1000 * scalar:.1f} ms a pair, {pairs * scalar / 3600:.1f} h; scipy's t "
            f"{1000 * theirs:.2f} ms a pair, {pairs * theirs:.0f} s; {pairs * scalar / ours:,.0f} and "
            f"{pairs * theirs / ours:,.0f} times as long"
        )
        print(f"{name:15s} {told}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=1000, help="simulated tables a line")
    tables = parser.parse_args().tables
    held = identical(tables), the_best(max(1, tables // 2))
    seconds()
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
