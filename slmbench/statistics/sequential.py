"""What may be looked at after every item: e-values and confidence sequences, whose error holds wherever one stops."""

from __future__ import annotations

import math
from collections.abc import Sequence

from slmbench.values import Array

PRIORS = (0.5, 5.0, 20.0)
"""The a of the Beta(a, a) that a win's probability is drawn from: for large, middling and small differences."""
NODES = 2048
_FEW = 50
_PRECISION = 1e-5


def log_e_values(wins: Array, losses: Array) -> Array:
    """log of the e-value of "a win is as likely as a loss", for counts of both (ints, or arrays of one shape).

    The mean over the priors a of B(a + wins, a + losses) 2^(wins + losses) / B(a, a): the likelihood of the wins and
    losses where a win's probability is drawn from Beta(a, a), over that where it is 1/2. Ties say nothing. If both
    models are equally good, it ever reaches 1 / alpha with probability alpha at most, however often it is looked at.
    Source: Ville 1939; Robbins 1970, mixtures.
    """
    import numpy as np
    from scipy.special import betaln, logsumexp

    wins, losses = np.asarray(wins, dtype=float), np.asarray(losses, dtype=float)
    each = [betaln(a + wins, a + losses) - betaln(a, a) for a in PRIORS]
    return (wins + losses) * math.log(2) + logsumexp(each, axis=0) - math.log(len(each))


class BettingTest:
    """Evidence against a mean of values in [-1, 1], one after another: an e-value that may be looked at after each.

    The mean of the product of 1 + b (value - mean) / (1 + mean), or / (1 - mean) for b < 0, over bets b in (-1, 1)
    whose (1 + b) / 2 has the priors' distribution. For values of -1, 0 and 1 and a mean of 0 it is `log_e_values`,
    within 1e-9. If the values come independently with that mean, it ever reaches 1 / alpha with probability alpha at
    most. The distribution is a sum over `NODES` bets: to be valid it needs to be no better than that.
    Source: Waudby-Smith and Ramdas 2024, section 4; Robbins 1970.
    """

    def __init__(self, mean: float = 0.0) -> None:
        import numpy as np

        bets, self._logs = _bets(NODES)
        self._bets, self.mean = bets / (1 + np.sign(bets) * mean), mean
        self.log_e = 0.0

    def add(self, value: float) -> float:
        """Takes one value; returns log E. Raises ValueError for one outside [-1, 1]."""
        import numpy as np

        _check(value)
        if value != self.mean:
            self._logs += np.log1p(self._bets * (value - self.mean))
            self.log_e = float(np.logaddexp.reduce(self._logs))
        return self.log_e

    def needed(self, value: float, log_e: float) -> int:
        """How many such values in a row, other than the mean, would take log E to `log_e`; 0 if it is there."""
        import numpy as np

        more, step = 0, np.log1p(self._bets * (value - self.mean))
        while np.logaddexp.reduce(self._logs + more * step) < log_e:
            more += 1
        return more


def betting_interval(
    values: Sequence[float], alpha: float = 0.05, tests: Sequence[BettingTest] = ()
) -> tuple[float, float]:
    """The means of values in [-1, 1] that `BettingTest` leaves after these values: an interval, within 1e-5.

    The intervals after 1, 2, 3 ... values all hold at once with probability 1 - alpha. log E is convex in the mean, so
    what is left lies between two ends. tests: of these values, whose word on their own means is kept to: such a mean is
    in the interval if and only if its test leaves it. Raises ValueError for a value outside [-1, 1].
    """
    import numpy as np

    for value in values:
        _check(value)
    if not values:
        return -1.0, 1.0
    seen, counts = np.unique(np.asarray(values, dtype=float), return_counts=True)
    bets, logs = _bets(NODES if len(seen) <= _FEW else NODES // 8)
    observed, most = float(np.average(seen, weights=counts)), -math.log(alpha)

    def is_left(mean: float) -> bool:
        scaled = bets / (1 + np.sign(bets) * mean)
        capital = logs + np.log1p(scaled[:, None] * (seen - mean)) @ counts
        return bool(np.logaddexp.reduce(capital) < most)

    def end(outside: float) -> float:
        inside = observed
        for test in tests:
            if min(inside, outside) < test.mean < max(inside, outside):
                inside, outside = (test.mean, outside) if test.log_e < most else (inside, test.mean)
        while abs(outside - inside) > _PRECISION:
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if is_left(middle) else (inside, middle)
        return inside

    low, high = end(-1.0), end(1.0)
    return (-1.0 if low - _PRECISION <= -1 else low), (1.0 if high + _PRECISION >= 1 else high)


def _bets(nodes: int) -> tuple[Array, Array]:
    """(bets: (nodes,), in (-1, 1); the logs of their probabilities)"""
    import numpy as np

    angles = (np.arange(nodes) + 0.5) * math.pi / nodes
    # dtheta of Beta(a, a) is sin(angle)^(2a - 1) dangle, smooth and periodic: equal steps are exact soon.
    weights = np.sin(angles)[None] ** (2 * np.asarray(PRIORS)[:, None] - 1)
    weights /= weights.sum(1, keepdims=True)
    return -np.cos(angles), np.log(weights.mean(0))


def _check(value: float) -> None:
    if not -1 <= value <= 1:
        raise ValueError(f"a value is {value!r}; it has to be from -1 to 1")


def final_share(right: int, n: int, total: int, alpha: float = 0.05) -> tuple[float, float]:
    """An interval for the share of right items among all `total`; `right` of `n` were, drawn without replacement.

    {K : BetaBin(K; total, 1, 1) / BetaBin(K - right; total - n, 1 + right, 1 + n - right) < 1 / alpha}, over total. All
    such intervals hold at once with probability 1 - alpha if the order is random; at n = total it is one point.
    Raises ValueError for impossible counts. Source: Waudby-Smith and Ramdas 2020, prior-posterior ratio martingale.
    """
    import numpy as np
    from scipy.special import betaln, gammaln

    if not 0 <= right <= n <= total or total < 1:
        raise ValueError(f"{right} right of {n} of {total} items can't be")

    def log_pmf(k: Array, of: int, a: float, b: float) -> Array:
        choose = gammaln(of + 1) - gammaln(k + 1) - gammaln(of - k + 1)
        return choose + betaln(k + a, of - k + b) - betaln(a, b)

    ks = np.arange(right, total - (n - right) + 1)
    ratio = log_pmf(ks, total, 1, 1) - log_pmf(ks - right, total - n, 1 + right, 1 + n - right)
    kept = ks[ratio < -math.log(alpha)]
    if not len(kept):  # All are ruled out: the likeliest is what is left.
        kept = ks[[np.argmin(ratio)]]
    return float(kept[0] / total), float(kept[-1] / total)
