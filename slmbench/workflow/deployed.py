"""One result against another as whoever ships a file asks: what is lost, and what is won for it."""

from __future__ import annotations

from slmbench.leaderboard.texts import number
from slmbench.workflow.compare import ComparedMetric, Comparison

_RATIOS = (
    ("decode_tokens_per_s", "{} the speed of writing"),
    ("prefill_tokens_per_s", "{} the speed of reading"),
    ("ram_peak_B", "{} the memory"),
    ("model_B", "{} the size on disk"),
)


def deployed_sentence(label: str, found: Comparison) -> str:
    """As `Q4_K_M loses .8 points on gsm8k [-2.1, .5], not told apart; 3.1x the speed of writing, 0.28x the memory`."""
    told = [
        f"{_lost(metric)} on {task.name}"
        for task in found.tasks
        for metric in task.metrics
        if metric.primary
    ]
    ratios = {cost.key: cost.ratio for cost in found.costs}
    won = [form.format(f"{ratio:.2f}x") for key, form in _RATIOS if (ratio := ratios.get(key)) is not None]
    return "; ".join(filter(None, (f"{label} {', '.join(told)}", ", ".join(won))))


def _lost(metric: ComparedMetric) -> str:
    # Of values between 0 and 1, points are hundredths.
    gain, (low, high) = metric.gain, metric.gain_ends
    what = "changes nothing" if gain == 0 else f"{'gains' if gain > 0 else 'loses'} {number(abs(gain))} of {metric.name}"
    if not metric.tested:
        return what
    verdict = "not told apart" if metric.verdict == "not told apart" else f"p = {metric.pair.p:.2g}"
    return f"{what} [{number(low)}, {number(high)}], {verdict}"
