"""How often intervals hold their true value, and how often equal models are told apart, beside the textbook's t.

python benchmarks/intervals.py [--tables 100]

Peers, by numpy and scipy alone: Student's t of the mean (scipy.stats.t) and, for clusters, the CR0 standard error with
clusters - 1 degrees of freedom (Miller 2024's formula). Every draw is seeded. Exits with 1 where an
interval covers less than 93%, or where more than 8% of tables of equal models tell some apart.
"""

from __future__ import annotations

import argparse
import itertools
import sys

import numpy as np
from scipy import stats

from slmbench.statistics.estimate import estimate
from slmbench.statistics.significance import holm, paired_p

UNIT = (0.0, 1.0)


def uneven(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.maximum(1, np.round(np.exp(rng.normal(1.5, 1.2, count)))).astype(int)


def cr0(sums: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(means, CR0 standard errors) of columns of cluster sums."""
    mean = sums.sum(0) / sizes.sum()
    return mean, np.sqrt(((sums - np.outer(sizes, mean)) ** 2).sum(0)) / sizes.sum()


def rare(tables: int) -> bool:
    kinds = {
        "95% zeros, else uniform": (lambda r, n: (r.random(n) < 0.05) * r.random(n), 0.025),
        "95% zeros, else beta(2, 5)": (lambda r, n: (r.random(n) < 0.05) * r.beta(2, 5, n), 0.05 * 2 / 7),
        "97% ones, else uniform": (lambda r, n: 1 - (r.random(n) < 0.03) * r.random(n), 0.985),
        "beta(2, 8), as ROUGE": (lambda r, n: r.beta(2, 8, n), 0.2),
        "beta(0.2, 2)": (lambda r, n: r.beta(0.2, 2, n), 0.2 / 2.2),
    }
    held = True
    print("scores in [0, 1]                 n    ours: covers, width     Student's t: covers, width")
    for name, (draw, true) in kinds.items():
        for n in (100, 164):
            rng = np.random.default_rng(n)
            ours, theirs = [], []
            for _ in range(tables):
                values = draw(rng, n)
                made = estimate(values.tolist(), range=UNIT)
                half = stats.t.ppf(0.975, n - 1) * stats.sem(values)
                ours.append((made.ci_low <= true <= made.ci_high, made.ci_high - made.ci_low))
                theirs.append((abs(values.mean() - true) <= half, 2 * half))
            (covers, width), (t_covers, t_width) = np.mean(ours, 0), np.mean(theirs, 0)
            held &= covers >= 0.93
            print(f"{name:30s} {n:4d}   {covers:11.3f}, {width:.4f}   {t_covers:16.3f}, {t_width:.4f}")
    return bool(held)


def clustered(tables: int) -> bool:
    held = True
    print("\nright or wrong, uneven clusters   p    ours: covers, width     CR0, t(clusters - 1): covers, width")
    for count, p in itertools.product((5, 10, 20, 50), (0.5, 0.85)):
        rng = np.random.default_rng(count)
        ours, theirs = [], []
        for _ in range(tables):
            sizes = uneven(rng, count)
            cluster = np.repeat(np.arange(count), sizes)
            values = (rng.random(sizes.sum()) < rng.beta(p * 3, (1 - p) * 3, count)[cluster]).astype(float)
            made = estimate(values.tolist(), [str(label) for label in cluster], UNIT)
            mean, error = cr0(np.bincount(cluster, values, count)[:, None], sizes)
            half = stats.t.ppf(0.975, count - 1) * error[0]
            ours.append((made.ci_low <= p <= made.ci_high, made.ci_high - made.ci_low))
            theirs.append((abs(mean[0] - p) <= half, 2 * half))
        (covers, width), (t_covers, t_width) = np.mean(ours, 0), np.mean(theirs, 0)
        held &= covers >= 0.93
        ours_told, theirs_told = f"{covers:11.3f}, {width:.3f}", f"{t_covers:20.3f}, {t_width:.3f}"
        print(f"{count:3d} clusters                  {p:5.2f}   {ours_told}   {theirs_told}")
    return bool(held)


def equal_models(tables: int) -> bool:
    held = True
    models = 20
    print(f"\n{models} equal models, continuous scores: tables in which some pair is told apart (Holm, 5%)")
    print("clusters           ours     CR0, t(clusters - 1)")
    for count, even in ((5, False), (10, False), (20, False), (30, False), (50, False), (50, True)):
        rng = np.random.default_rng(count)
        alarms = naive = 0
        for _ in range(tables):
            sizes = np.full(count, 8) if even else uneven(rng, count)
            cluster = np.repeat(np.arange(count), sizes)
            scores = rng.normal(0, 0.7, (count, models))[cluster] + rng.normal(size=(len(cluster), models))
            labels = {str(item): str(label) for item, label in enumerate(cluster)}
            told = [{str(item): value for item, value in enumerate(column)} for column in scores.T.tolist()]
            pairs = list(itertools.combinations(range(models), 2))
            alarms += min(holm([paired_p(told[i], told[j], labels) for i, j in pairs])) < 0.05
            sums = np.stack([np.bincount(cluster, column, count) for column in scores.T], 1)
            mean, error = cr0(sums[:, [i for i, _ in pairs]] - sums[:, [j for _, j in pairs]], sizes)
            naive += min(holm((2 * stats.t.sf(np.abs(mean / error), count - 1)).tolist())) < 0.05
        held &= alarms / tables <= 0.08
        print(
            f"{count:3d} {'even' if even else 'uneven':8s} {alarms / tables:10.3f} {naive / tables:15.3f}", flush=True
        )
    return bool(held)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=100, help="simulated tables a line")
    tables = parser.parse_args().tables
    held = [rare(5 * tables), clustered(2 * tables), equal_models(max(1, tables // 2))]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
