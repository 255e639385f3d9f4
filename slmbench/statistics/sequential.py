"""What may be looked at after every item: e-values and confidence sequences, whose error holds wherever one stops."""

from __future__ import annotations

import math
from collections.abc import Sequence

from slmbench.values import Array

PRIORS = (0.5, 5.0, 20.0)
"""The a of the Beta(a, a) that a win's probability is drawn from: for large, middling and small differences."""
NODES = 2048


def log_e_values(wins: Array, losses: Array, priors: Sequence[float] = PRIORS) -> Array:
    """log of the e-value of "a win is as likely as a loss", for counts of both (ints, or arrays of one shape).

    The mean over the priors a of B(a + wins, a + losses) 2^(wins + losses) / B(a, a): the likelihood of the wins and
    losses where a win's probability is drawn from Beta(a, a), over that where it is 1/2. Ties say nothing. If both
    models are equally good, it ever reaches 1 / alpha with probability alpha at most, however often it is looked at.
    Source: Ville 1939; Robbins 1970, mixtures.
    """
    import numpy as np
    from scipy.special import betaln, logsumexp

    wins, losses = np.asarray(wins, dtype=float), np.asarray(losses, dtype=float)
    each = [betaln(a + wins, a + losses) - betaln(a, a) for a in priors]
    return (wins + losses) * math.log(2) + logsumexp(each, axis=0) - math.log(len(each))


class BettingTest:
    """The same e-value for differences of any size in [-1, 1], one after another: of "their mean is 0".

    The mean of prod(1 + bet d) over bets in (-1, 1) whose (1 + bet) / 2 has the priors' distribution; for differences
    of -1, 0 and 1 it is `log_e_values`, within 1e-9. The distribution is a sum over `NODES` bets: to be valid it needs
    to be no better than that. Source: Waudby-Smith and Ramdas 2024, section 4; Robbins 1970.
    """

    def __init__(self, priors: Sequence[float] = PRIORS) -> None:
        import numpy as np

        angles = (np.arange(NODES) + 0.5) * math.pi / NODES
        self._bets = -np.cos(angles)
        # dtheta of Beta(a, a) is sin(angle)^(2a - 1) dangle, smooth and periodic: equal steps are exact soon.
        weights = np.sin(angles)[None] ** (2 * np.asarray(priors)[:, None] - 1)
        weights /= weights.sum(1, keepdims=True)
        self._logs = np.log(weights.mean(0))
        self.log_e = 0.0

    def add(self, difference: float) -> float:
        """Takes one difference; returns log E. Raises ValueError for one outside [-1, 1]."""
        import numpy as np
        from scipy.special import logsumexp

        if not -1 <= difference <= 1:
            raise ValueError(f"a difference is {difference!r}; it has to be from -1 to 1")
        if difference:
            self._logs += np.log1p(self._bets * difference)
            self.log_e = float(logsumexp(self._logs))
        return self.log_e


class BernsteinSequence:
    """Intervals for the mean of values in [-1, 1], all of which hold at once with probability 1 - alpha.

    The predictable plug-in empirical Bernstein sequence, each interval cut to those before it. Values may come
    independently, or in random order without replacement. Source: Waudby-Smith and Ramdas 2024, section 3.2.
    """

    def __init__(self, alpha: float) -> None:
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is {alpha!r}; it has to be between 0 and 1")
        self._log = math.log(2 / alpha)
        self._n, self._sum, self._squares = 0, 0.0, 0.0
        self._bets, self._betted, self._spent = 0.0, 0.0, 0.0
        self.low, self.high = -1.0, 1.0

    def add(self, value: float) -> tuple[float, float]:
        """Takes one value; returns the ends of the interval so far. Raises ValueError for one outside [-1, 1]."""
        if not -1 <= value <= 1:
            raise ValueError(f"a value is {value!r}; it has to be from -1 to 1")
        x = (value + 1) / 2
        mean, variance = (0.5 + self._sum) / (self._n + 1), (0.25 + self._squares) / (self._n + 1)
        t = self._n + 1
        bet = min(math.sqrt(2 * self._log / (variance * t * math.log(1 + t))), 0.5)
        self._spent += 4 * (x - mean) ** 2 * (-math.log1p(-bet) - bet) / 4
        self._bets += bet
        self._betted += bet * x
        self._n, self._sum = t, self._sum + x
        self._squares += (x - (0.5 + self._sum) / (t + 1)) ** 2
        centre, half = self._betted / self._bets, (self._log + self._spent) / self._bets
        low, high = max(self.low, 2 * (centre - half) - 1), min(self.high, 2 * (centre + half) - 1)
        if low <= high:  # They part with probability alpha at most; the last interval stands then.
            self.low, self.high = low, high
        return self.low, self.high


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


def log_set_e_value(wins: int, losses: int, ties: int, total: int) -> float:
    """log of the e-value against "whoever leads now doesn't lead on all `total` items".

    The smallest ratio, over all counts of the whole set by which the leader is level or behind, of the prior's
    probability of these counts to the posterior's; the prior is Dirichlet-multinomial(1, 1, 2). It ever reaches
    1 / alpha, while the leader isn't the one on the whole set, with probability alpha at most if the order is random.
    inf once nothing that is left can change the lead; 0 while nobody leads. Raises ValueError for impossible counts.
    Source: Waudby-Smith and Ramdas 2020.
    """
    import numpy as np
    from scipy.special import gammaln

    n = wins + losses + ties
    if min(wins, losses, ties) < 0 or n > total:
        raise ValueError(f"{wins} wins, {losses} losses and {ties} ties of {total} items can't be")
    if wins == losses:
        return math.inf if n == total else 0.0
    ahead, behind = max(wins, losses), min(wins, losses)
    prior, seen = (1.0, 1.0, 2.0), (ahead, behind, ties)
    smallest = math.inf
    # Level, or behind by one: of those further behind, the posterior's share is smaller still.
    for gap in (0, 1):
        leads = np.arange(ahead, (total - gap) // 2 + 1)
        whole = (leads, leads + gap, total - 2 * leads - gap)
        fits = (whole[1] >= behind) & (whole[2] >= ties)
        if not fits.any():
            continue
        log_prior = gammaln(total + 1) + gammaln(4.0) - gammaln(4.0 + total)
        log_posterior = gammaln(total - n + 1) + gammaln(4.0 + n) - gammaln(4.0 + total)
        for count, had, a in zip(whole, seen, prior, strict=True):
            count, left = count[fits], count[fits] - had
            log_prior = log_prior + gammaln(a + count) - gammaln(a) - gammaln(count + 1)
            log_posterior = log_posterior + gammaln(a + count) - gammaln(a + had) - gammaln(left + 1)
        smallest = min(smallest, float((log_prior - log_posterior).min()))
    return smallest


def certain_mean(values_sum: float, n: int, total: int) -> tuple[float, float]:
    """The ends of what the mean of all `total` values in [-1, 1] can still be, n of which are known to add up so."""
    return (values_sum - (total - n)) / total, (values_sum + (total - n)) / total


def wins_needed(wins: int, losses: int, alpha: float) -> int:
    """How many wins in a row, and no loss, would take the e-value to 1 / alpha; 0 if it is there."""
    more = 0
    while log_e_values(wins + more, losses) < -math.log(alpha):
        more += 1
    return more
