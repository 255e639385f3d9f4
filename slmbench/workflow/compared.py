"""What differs between two runs beside their answers: the conditions that they were made under, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen

from slmbench.leaderboard import ScoredRun
from slmbench.leaderboard.texts import count, duration, size

ASKED = {
    "task version": "task.version",
    "split": "dataset.split",
    "limit": "limit",
    "format": "format",
    "shots": "fewshot.n",
    "chain of thought": "cot",
    "max_tokens": "generation.max_gen_toks",
    "stop strings": "generation.until",
    "examination": "sandbox.examine",
}
"""What a person would call the parts of a comparability key -> where a record has them."""
ASKED_UNSEEN = {
    "worked examples": "fewshot_sha256",
    "items": "dataset.item_ids_sha256",
    "rows, or what the task makes of them": "dataset.items_sha256",
    "generation settings": "generation",
}
"""Parts that are seen by their digests alone."""
MADE = {
    "engine": "engine",
    "dtype": "model.dtype",
    "seed": "seed",
    "sandbox": "sandbox.tier",
    "slmbench": "code.version",
}
"""What may differ between runs that are ranked together, and may still change an answer."""
MACHINE = ("cpu", "cores", "threads", "gpu")
_MACHINE = tuple(f"hardware.{part}" for part in MACHINE)
_WHERE = ("engine", "batch_size", "latency", *_MACHINE)


@frozen
class Difference:
    """A condition that isn't the same. a, b: empty if it is a digest. matters: whether runs are ranked apart for it."""

    what: str
    a: str
    b: str
    matters: bool


@frozen
class ComparedCost:
    """One cost over the compared tasks. form: how an amount is written. apart: why no ratio is made; '' if one is."""

    key: str
    label: str
    a: float | None
    b: float | None
    form: Callable[[float], str]
    apart: str = ""

    @property
    def ratio(self) -> float | None:
        """b / a; None if that says nothing."""
        return self.b / self.a if not self.apart and self.a and self.b is not None else None


def differences_of(a: ScoredRun, b: ScoredRun) -> tuple[Difference, ...]:
    """The conditions that differ, those that keep the runs out of one ranking first."""
    found = []
    if a.condition_key != b.condition_key:
        found = _differing(a, b, ASKED, matters=True)
        if not found:
            unseen = _differing(a, b, ASKED_UNSEEN, matters=True)
            found = [Difference(one.what, "", "", True) for one in unseen] or [
                Difference("how the format or the task's form is made", "", "", True)
            ]
    return (*found, *_differing(a, b, MADE, matters=False))


def costs_of(pairs: Sequence[tuple[ScoredRun, ScoredRun]]) -> tuple[ComparedCost, ...]:
    """The costs that both sides, or one of them, have. pairs: the compared runs, one pair a task and condition."""
    same = all(first.comparability_key == second.comparability_key for first, second in pairs)
    asked = all(first.condition_key == second.condition_key for first, second in pairs)
    items = "" if same else "not the same items" if asked else "not asked the same"
    where, machine = _elsewhere(pairs, _WHERE), _elsewhere(pairs, _MACHINE)
    alone = "" if all(run.record.get("latency") for pair in pairs for run in pair) else "not with --latency"
    found = []
    for key, label, path, over, form, apart in (
        ("parameters", "parameters", "model.parameters", max, count, ""),
        ("adapter_parameters", "adapter parameters", "adapter.parameters", max, count, ""),
        ("adapter_bytes", "adapter file", "adapter.bytes", max, size, ""),
        ("train_s", "training time", "adapter.train_s", max, duration, machine),
        ("seconds", "evaluation time", "cost.seconds", sum, duration, items or where),
        ("tokens_in", "tokens read", "cost.tokens_in", sum, count, items),
        ("tokens_out", "tokens written", "cost.tokens_out", sum, count, items),
        ("latency_p50_ms", "latency, alone", "cost.latency_p50_ms", _mean, _milliseconds, alone or items or where),
        ("model_B", "model file", "cost.model_B", max, size, ""),
        ("load_s", "loading", "cost.load_s", max, duration, machine),
        ("prefill_tokens_per_s", "reads, one stream", "cost.prefill_tokens_per_s", _mean, _a_second, machine),
        ("decode_tokens_per_s", "writes, one stream", "cost.decode_tokens_per_s", _mean, _a_second, machine),
        ("ram_peak_B", "peak memory", "cost.ram_peak_B", max, size, machine),
        ("vram_peak_B", "peak GPU memory", "cost.vram_peak_B", max, size, where),
    ):
        amounts = [_amount([pair[which] for pair in pairs], path, over) for which in (0, 1)]
        if any(amounts):
            found.append(ComparedCost(key, label, amounts[0], amounts[1], form, apart))
    return tuple(found)


def _elsewhere(pairs: Sequence[tuple[ScoredRun, ScoredRun]], paths: Sequence[str]) -> str:
    names = dict.fromkeys(path for first, second in pairs for path in paths if _at(first, path) != _at(second, path))
    said = dict.fromkeys("another machine" if name.startswith("hardware") else f"another {name}" for name in names)
    return ", ".join(said).replace("batch_size", "batch size").replace("another latency", "--latency of one alone")


def _amount(runs: Sequence[ScoredRun], path: str, over: Callable[[Any], float]) -> float | None:
    values = [_at(run, path) for run in runs]
    known = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    # A sum over some of the tasks is no sum.
    return over(known) if known and len(known) == len(values) else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _a_second(value: float) -> str:
    return f"{value:,.3g} tokens/s"


def _milliseconds(value: float) -> str:
    return f"{value:.3g} ms"


def _differing(a: ScoredRun, b: ScoredRun, paths: dict[str, str], *, matters: bool) -> list[Difference]:
    found = []
    for what, path in paths.items():
        one, other = _at(a, path), _at(b, path)
        if one != other:
            found.append(Difference(what, _said(one), _said(other), matters))
    return found


def _at(run: ScoredRun, path: str) -> object:
    found: Any = run.record
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _said(value: object) -> str:
    if value in (None, []):
        return "none"
    return ", ".join(repr(one) for one in value) if isinstance(value, list) else str(value)
