"""The power of paired tests on as many items as `slmbench plan` asks for, simulated, beside plans for two samples.

python benchmarks/planning.py [--simulations 20000]

Peer: statsmodels' number of items for two unpaired samples, which is what most calculators give. Every draw is seeded.
Exits with 1 where the power is below 78% or above 84% for a plan of 80%.
"""

from __future__ import annotations

import argparse
import math
import sys

import numpy as np
from scipy import stats
from statsmodels.stats.power import NormalIndPower, TTestIndPower
from statsmodels.stats.proportion import proportion_effectsize

from slmbench.statistics.planning import PairSpread, items_to_detect, spread_of_pair


def mid_p(wins: np.ndarray, losses: np.ndarray) -> np.ndarray:
    low, both = np.minimum(wins, losses), wins + losses
    return 2 * stats.binom.cdf(low, both, 0.5) - stats.binom.pmf(low, both, 0.5)


def right_or_wrong(simulations: int) -> list[float]:
    print("right or wrong, mid-p McNemar at 5%   D     pd   items    power   unpaired plan asks for")
    found = []
    for difference, discordance, first in (
        (0.02, 0.20, 0.4),
        (0.03, 0.25, 0.4),
        (0.05, 0.25, 0.4),
        (0.07, 0.29, 0.33),
        (0.10, 0.30, 0.5),
        (0.20, 0.35, 0.5),
        (0.135, 0.21, 0.085),
    ):
        n = items_to_detect(difference, PairSpread(math.sqrt(discordance - difference**2), discordance))
        rng = np.random.default_rng(n)
        shares = [(discordance + difference) / 2, (discordance - difference) / 2, 1 - discordance]
        wins, losses, _ = rng.multinomial(n, shares, simulations).T
        power = float(np.mean(mid_p(wins, losses) <= 0.05))
        effect = proportion_effectsize(first + difference, first)
        unpaired = math.ceil(NormalIndPower().solve_power(effect, power=0.8, alpha=0.05))
        planned = f"{'':34s}{difference:5.3f}  {discordance:4.2f}  {n:6,d}"
        print(f"{planned}    {power:.3f}   {unpaired:6,d}, x{unpaired / n:.1f}")
        found.append(power)
    return found


def scores_in_a_range(simulations: int) -> list[float]:
    print("scores in [0, 1], paired t at 5%      D     sd   items    power   unpaired plan asks for")
    found = []
    for difference, concentration in ((0.02, 30.0), (0.05, 10.0), (0.1, 6.0)):
        rng = np.random.default_rng(1)

        def draw(
            n: int, difference: float = difference, concentration: float = concentration, rng: np.random.Generator = rng
        ):
            mean = rng.beta(2.0, 4.0, n)  # Of the item, the same for both models.
            shifted = np.clip(mean + difference, 0.01, 0.99)
            return (
                rng.beta(mean * concentration, (1 - mean) * concentration),
                rng.beta(shifted * concentration, (1 - shifted) * concentration),
            )

        one, other = draw(200_000)
        spread, true = spread_of_pair(one, other), float((other - one).mean())
        n = items_to_detect(true, spread)
        rejected = sum(stats.ttest_rel(*draw(n)).pvalue <= 0.05 for _ in range(simulations // 4))
        power = rejected / (simulations // 4)
        unpaired = math.ceil(TTestIndPower().solve_power(true / one.std(), power=0.8, alpha=0.05))
        print(f"{'':34s}{true:5.3f}  {spread.sd:4.2f}  {n:6,d}    {power:.3f}   {unpaired:6,d}, x{unpaired / n:.1f}")
        found.append(power)
    return found


def clusters(simulations: int) -> list[float]:
    print("clusters of 1 to 8 items              D     sd   items    power   design effect")
    rng = np.random.default_rng(2)
    difference, within = 0.1, 0.3

    def draw(groups: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(groups), rng.integers(1, 9, groups))
        shared = rng.normal(size=groups)[labels] * math.sqrt(within)
        return difference + 0.5 * (shared + rng.normal(size=len(labels)) * math.sqrt(1 - within)), labels

    values, labels = draw(50_000)
    spread = spread_of_pair(np.zeros(len(values)), values, labels)
    n = items_to_detect(difference, spread)
    rejected = 0
    for _ in range(simulations // 4):
        values, labels = draw(round(n / 4.5))
        sums = np.bincount(labels, values - values.mean())
        stderr = math.sqrt(float((sums**2).sum()) * len(sums) / (len(sums) - 1)) / len(values)
        rejected += abs(values.mean() / stderr) > stats.t.ppf(0.975, len(sums) - 1)
    power = rejected / (simulations // 4)
    print(f"{'':34s}{difference:5.3f}  {spread.sd:4.2f}  {n:6,d}    {power:.3f}   {spread.design:.2f}")
    return [power]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulations", type=int, default=20_000)
    simulations = parser.parse_args().simulations
    found = right_or_wrong(simulations) + scores_in_a_range(simulations) + clusters(simulations)
    print(f"power for a plan of 80%: {min(found):.3f} to {max(found):.3f}")
    sys.exit(0 if all(0.78 <= power <= 0.84 for power in found) else 1)


if __name__ == "__main__":
    main()
