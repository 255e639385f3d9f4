"""Evaluations that stop as soon as they are decided: how often the wrong model wins, how many items it takes.

    python benchmarks/decisions.py [--tables 1000]

Two models with known accuracies on the same items (a Gaussian copula, latent correlation .6) are compared item by item,
as `slmbench eval --against RUN --until decided` does. Beside it stand the power of the one fixed test at the end
(mid-p McNemar at 5%), and what was simulated elsewhere for the e-value alone at 5%. Scores that are not right or wrong,
practical equality, and what the whole set will say have the predictable plug-in empirical Bernstein sequence (Waudby-
Smith and Ramdas 2024, section 3.2) as peer. Items in clusters are drawn as clusters. Runs that were stopped are raced
against: a base, a first model against it until decided, and a second one against the first. Every draw is seeded. How
often ranks of many models err is in ranks.py. Exits with 1 if a wrong winner is declared in more than 5% of
simulations, or .329 -> .645 on 1,319 items takes more than 60 items in the mean.
"""

from __future__ import annotations

import argparse
import math
import sys

import numpy as np
from scipy import stats
from scipy.special import bdtr, logsumexp

from slmbench.statistics.estimate import estimate
from slmbench.statistics.race import ALPHA, SEQUENCE_SHARE, PairedRace, threshold
from slmbench.statistics.sequential import _bets, final_share, log_e_values

MOST_WRONG, MOST_ITEMS = 0.05, 60
TRUTHS = [
    # base, tuned, items, and of the e-value alone at 5%, from 1,500 runs: how often it decides, after how many items.
    (0.50, 0.50, 1319, ".028", ""),
    (0.30, 0.30, 164, ".010", ""),
    (0.33, 0.40, 1319, ".978", "510"),
    (0.46, 0.56, 1319, "1.00", "275"),
    (0.45, 0.65, 1319, "", ""),
    (0.329, 0.645, 1319, "1.00", "37"),
    (0.085, 0.22, 164, ".893", "94"),
    (0.375, 0.40, 2000, ".258", "1,747"),
]


def pairs(rng: np.random.Generator, base: float, tuned: float, shape: tuple[int, int]) -> np.ndarray:
    """Differences of right-or-wrong items. (tables, items) of -1, 0, 1"""
    shared, own = rng.standard_normal(shape), rng.standard_normal((2, *shape))
    first, second = (math.sqrt(0.6) * shared + math.sqrt(0.4) * one for one in own)
    return (second < stats.norm.ppf(tuned)).astype(np.int8) - (first < stats.norm.ppf(base)).astype(np.int8)


def mid_p(wins: np.ndarray, losses: np.ndarray) -> np.ndarray:
    n, k = wins + losses, np.minimum(wins, losses)
    below = np.where(k > 0, bdtr(np.maximum(k - 1, 0), n, 0.5), 0.0)
    return np.where(wins == losses, 1.0, below + bdtr(k, n, 0.5))


def stopped(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(1 for "better", -1 for "worse", 0 for undecided; items asked) of each table."""
    wins, losses = (differences > 0).cumsum(1), (differences < 0).cumsum(1)
    over = log_e_values(wins, losses) >= math.log(threshold())
    first = np.where(over.any(1), over.argmax(1), differences.shape[1] - 1)
    at = np.arange(len(differences)), first
    last = np.array([not early and told_at_the_end(row) for early, row in zip(over.any(1), differences, strict=True)])
    lead = np.sign(wins[at] - losses[at])
    return np.where(over.any(1) | last, lead, 0), first + 1


def told_at_the_end(differences: np.ndarray) -> bool:
    found = estimate(differences.astype(float), None, (-1.0, 1.0), (1 - SEQUENCE_SHARE) * ALPHA)
    return not found.ci_low <= 0 <= found.ci_high


def right_or_wrong(tables: int) -> bool:
    held = True
    print(
        "right or wrong           items   one test at the end   decided  wrong winner  mean items   e-value alone, 5%"
    )
    for base, tuned, items, power, mean in TRUTHS:
        rng = np.random.default_rng(items)
        differences = pairs(rng, base, tuned, (tables, items))
        verdicts, asked = stopped(differences)
        fixed = mid_p((differences > 0).sum(1), (differences < 0).sum(1)) <= 0.05
        wrong = (verdicts != 0) if base == tuned else (verdicts < 0)
        beside = f"{power or '-':>7} / {mean or '-'}"
        print(
            f"{base:.3f} v {tuned:.3f}        {items:7,d}   {fixed.mean():19.3f}   {(verdicts != 0).mean():7.3f}  "
            f"{wrong.mean():12.3f}  {asked.mean():10,.0f}   {beside}"
        )
        held &= wrong.mean() <= MOST_WRONG
        if (base, tuned) == (0.329, 0.645):
            print(
                f"  goal: at most {MOST_ITEMS} items in the mean: {asked.mean():.1f}, {asked.mean() / items:.1%} of all"
            )
            held &= asked.mean() <= MOST_ITEMS
        for row in range(min(10, tables)):  # What the product does is what is counted here.
            race = PairedRace(items)
            for difference in differences[row]:
                if race.add([float(difference < 0)], [float(difference > 0)]).decided:
                    break
            said = {"better": 1, "worse": -1, "undecided": 0}[race.state.verdict]
            assert (said, race.state.n) == (verdicts[row], asked[row]), (race.state, verdicts[row], asked[row])
    return bool(held)


class BernsteinSequence:
    """The peer: intervals for a mean of values in [-1, 1]."""

    def __init__(self, alpha: float) -> None:
        self.log, self.n, self.sum, self.squares = math.log(2 / alpha), 0, 0.0, 0.0
        self.bets, self.betted, self.spent = 0.0, 0.0, 0.0
        self.low, self.high = -1.0, 1.0

    def add(self, value: float) -> tuple[float, float]:
        x = (value + 1) / 2
        mean, variance = (0.5 + self.sum) / (self.n + 1), (0.25 + self.squares) / (self.n + 1)
        t = self.n + 1
        bet = min(math.sqrt(2 * self.log / (variance * t * math.log(1 + t))), 0.5)
        self.spent += 4 * (x - mean) ** 2 * (-math.log1p(-bet) - bet) / 4
        self.bets, self.betted = self.bets + bet, self.betted + bet * x
        self.n, self.sum = t, self.sum + x
        self.squares += (x - (0.5 + self.sum) / (t + 1)) ** 2
        centre, half = self.betted / self.bets, (self.log + self.spent) / self.bets
        self.low, self.high = max(self.low, 2 * (centre - half) - 1), min(self.high, 2 * (centre + half) - 1)
        return self.low, self.high


def other_scores(tables: int) -> bool:
    """Scores in [0, 1], as ROUGE: beta-distributed, of two models that share most of an item's difficulty."""
    held, items = True, 1319
    print(f"scores in [0, 1], {items:,} items   decided  wrong winner  mean items   Bernstein's: decided, mean items")
    for base, tuned in ((0.20, 0.20), (0.20, 0.22), (0.20, 0.25)):
        rng = np.random.default_rng(items)
        decided, wrong, asked, theirs, their_items = 0, 0, [], 0, []
        for _ in range(tables):
            shared = rng.standard_normal(items)
            scores = [
                stats.beta(4 * mean, 4 * (1 - mean)).ppf(
                    stats.norm.cdf(math.sqrt(0.6) * shared + math.sqrt(0.4) * rng.standard_normal(items))
                )
                for mean in (base, tuned)
            ]
            race = PairedRace(items)
            for a, b in zip(scores[0].tolist(), scores[1].tolist(), strict=True):
                if race.add([a], [b]).decided:
                    break
            decided += race.state.decided
            wrong += race.state.decided and (base == tuned or race.state.verdict == "worse")
            asked.append(race.state.n)
            peer = BernsteinSequence(0.05)
            for difference in (scores[1] - scores[0]).tolist():
                low, high = peer.add(difference)
                if low > 0 or high < 0:
                    theirs += 1
                    break
            their_items.append(peer.n)
        print(
            f"{base:.2f} v {tuned:.2f}                     {decided / tables:7.3f}  {wrong / tables:12.3f}  "
            f"{np.mean(asked):10,.0f}   {theirs / tables:11.3f}, {np.mean(their_items):,.0f}"
        )
        held &= wrong / tables <= MOST_WRONG
    return bool(held)


def practically_equal(tables: int) -> bool:
    """Within 5 points: items until both ends of the margin are ruled out, and how often that is wrong."""
    held, margin, discordant = True, 0.05, 0.24
    bets, logs = _bets(512)
    print(
        "within 5 points (24% of items differ)   decided  of these wrong  median items   Bernstein's: decided, median"
    )
    for difference, items in ((0.0, 10_042), (0.0, 1319), (0.02, 10_042), (0.05, 10_042)):
        up, down = (discordant + difference) / 2, (discordant - difference) / 2
        asked, theirs = [], []
        for table in range(tables):
            rng = np.random.default_rng(table)
            seen = rng.choice([-1, 0, 1], p=[down, 1 - discordant, up], size=items)
            counts = np.array([(seen == value).cumsum() for value in (-1, 0, 1)])
            looked = np.arange(49, items, 5)
            capital = []
            for edge in (margin, -margin):
                scaled = bets / (1 + np.sign(bets) * edge)
                factors = np.log1p(scaled[:, None] * (np.array([-1, 0, 1]) - edge))
                capital.append(logsumexp(logs[:, None] + factors @ counts[:, looked], axis=0))
            over = np.minimum(*capital) >= math.log(threshold())
            asked.append(looked[over.argmax()] + 1 if over.any() else math.inf)
            peer = BernsteinSequence(0.05)
            found = math.inf
            if table < tables // 10:
                for n, value in enumerate(seen.tolist(), 1):
                    low, high = peer.add(float(value))
                    if -margin < low and high < margin:
                        found = n
                        break
                theirs.append(found)
        decided = np.isfinite(asked).mean()
        wrong = decided if difference >= margin else 0.0
        print(
            f"{difference:.2f} on {items:6,d} items                    {decided:7.3f}  {wrong:14.3f}  "
            f"{np.median(asked):12,.0f}   {np.isfinite(theirs).mean():20.3f}, {np.median(theirs):,.0f}"
        )
        held &= wrong <= MOST_WRONG
    return bool(held)


def whole_set(tables: int) -> bool:
    """What the whole set will say of a score, drawn without replacement."""
    missed, total = 0, 1319
    for table in range(tables):
        rng = np.random.default_rng(table)
        right = rng.permutation(np.arange(total) < round(0.4 * total)).cumsum()
        ends = [final_share(int(right[n - 1]), n, total) for n in range(20, total, 20)]
        missed += any(not low <= right[-1] / total <= high for low, high in ends)
    print(f"a score on all {total:,} items, 95%: some interval misses it in {missed / tables:.3f} of {tables} sets")
    return missed / tables <= MOST_WRONG


def clustered(tables: int) -> bool:
    """Equal models on clusters of 6 items, or of 1 to some 20, each with an effect on either model of its own."""
    held = True
    print("equal models, clusters   wrong winner: right or wrong, of these at the end; scores in [0, 1], at the end")
    for count, even in ((3, True), (5, False), (10, True), (10, False), (30, True), (30, False)):
        rng, shares = np.random.default_rng(count), []
        for binary in (True, False):
            told: list[str] = []
            for _ in range(tables):
                sizes = np.full(count, 6) if even else np.maximum(1, rng.lognormal(1.5, 1, count).round()).astype(int)
                places = np.repeat(np.arange(count), sizes)
                z = math.sqrt(0.4) * rng.standard_normal(len(places)) + 0.5 * rng.standard_normal((2, count))[:, places]
                z += math.sqrt(0.35) * rng.standard_normal(z.shape)
                scores = (z < 0.25).astype(float) if binary else stats.norm.cdf(z)
                race = PairedRace(len(places), draws=count, largest=int(sizes.max()))
                for drawn in range(count):
                    a, b = scores[:, places == drawn].tolist()
                    if race.add(a, b).decided:
                        break
                told.append(race.state.by)
            shares += [(tables - told.count("")) / tables, told.count("all items") / tables]
        print(
            f"{count:3d} {'even' if even else 'uneven':6s}           " + "".join(f"{share:13.3f}" for share in shares)
        )
        held &= max(shares) <= MOST_WRONG
    return held


def against_stopped(tables: int) -> bool:
    """A second model, as good as the first, against the first one's run that was stopped when it beat the base."""
    held = True
    print("against a stopped run, 1,319 items   it was stopped, at (mean)   wrong winner; of those where it was better")
    for base, tuned in ((0.40, 0.40), (0.40, 0.45), (0.33, 0.40), (0.46, 0.56), (0.329, 0.645)):
        rng = np.random.default_rng(round(1000 * tuned))
        shape = tables, 1319
        shared = rng.standard_normal(shape)
        right = [
            math.sqrt(0.6) * shared + math.sqrt(0.4) * rng.standard_normal(shape) < stats.norm.ppf(share)
            for share in (base, tuned, tuned)
        ]
        verdicts, n = stopped(right[1].astype(np.int8) - right[0])
        there = np.arange(shape[1]) < n[:, None]
        wins, losses = ((one & ~other & there).cumsum(1) for one, other in ((right[2], right[1]), right[1:]))
        early = n < shape[1]
        wrong = (log_e_values(wins, losses) >= math.log(threshold())).any(1) & early
        chosen = early & (verdicts > 0)
        print(
            f"{base:.3f} v {tuned:.3f}, then {tuned:.3f}             {early.mean():8.3f}  {n[early].mean():8,.0f}   "
            f"{wrong[early].mean():19.3f}; {wrong[chosen].mean():.3f}"
        )
        held &= wrong.mean() <= MOST_WRONG
    return bool(held)


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--tables", type=int, default=1000)
    tables = flags.parse_args().tables
    held = right_or_wrong(tables)
    held &= other_scores(max(1, tables // 10))
    held &= practically_equal(max(5, tables // 5))
    held &= whole_set(max(1, tables // 5))
    held &= clustered(max(1, tables // 2))
    held &= against_stopped(tables)
    sys.exit(not held)


if __name__ == "__main__":
    main()
