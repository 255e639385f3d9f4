"""What the samples of a run say of its record, beside the values of its metrics."""

from __future__ import annotations

import hashlib
from statistics import quantiles

from slmbench.formats import format_names, load_format
from slmbench.runs import AT_LIMIT, AT_STOP, CUT, NOT_IN_FORMAT, SAMPLES, canonical_sha256
from slmbench.values import JsonObject

Fault = tuple[str, object, str]
"""(field of run.json, what it says, what it has to be)."""


# Of sums that are made in another order.
_ROUNDING = 1e-9


class Sums:
    """What a run's samples add up to, seen one by one. faults: what is wrong with single ones."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.guesses: list[float] = []
        self._totals = {"tokens_in": 0, "tokens_out": 0, "n_truncated": 0}
        self._compute_ms = 0.0
        self._latencies: list[float] = []
        self._unknown: set[str] = set()
        self._prompts = hashlib.sha256()
        self._ended: dict[str | None, int] = {}
        self._faults_of_format = 0

    def __call__(self, sample: JsonObject) -> str | None:
        """Adds a sample; what its prompt's digest says otherwise than its prompt."""
        first = not sample.get("epoch")
        for name in ("tokens_in", "tokens_out"):
            self._add(name, sample.get(name))
        self._latencies.append(sample.get("latency_ms") or 0.0)
        ended = sample.get("finish_reason")
        self._ended[ended] = self._ended.get(ended, 0) + 1
        self._faults_of_format += sample.get("format_fault") is not None
        if (took := sample.get("compute_ms")) is None:
            self._unknown.add("seconds")
        else:
            self._compute_ms += took
        prompt, claimed = sample.get("prompt"), sample.get("prompt_sha256")
        if first:
            self.ids.append(sample["item_id"])
            self._add("n_truncated", sample.get("truncated"))  # Prompts, not samples.
            self._add_prompt(prompt, sample)
        if prompt is not None and claimed is not None:
            found = hashlib.sha256(prompt.encode(errors="surrogatepass")).hexdigest()
            if found != claimed:
                return f"item {sample['item_id']!r}: sha256 of its prompt is {found[:16]}..., prompt_sha256 is another"
        return None

    def _add(self, name: str, value: int | None) -> None:
        if value is None:
            self._unknown.add(name)
        else:
            self._totals[name] += value

    def _add_prompt(self, prompt: str | None, sample: JsonObject) -> None:
        choices = sample.get("choices") or ()
        if choices:
            self.guesses.append(1 / len(choices))
        # Where each choice has a prompt of its own, the first one's is kept; an import doesn't tell which those are.
        apart = len(choices) > len(set(choices)) == 1 or not set(sample.get("references") or ()) <= set(choices)
        if prompt is None or (choices and apart):
            self._unknown.add("prompts")
        else:
            between = b"\0" if len(self.ids) > 1 else b""
            self._prompts.update(between + prompt.encode(errors="surrogatepass"))

    def faults_of(self, record: JsonObject) -> list[Fault]:
        """What a record says otherwise than its samples."""
        dataset, cost, n = record["dataset"], record["cost"], len(self.ids)
        seconds = self._compute_ms / 1000
        digest = canonical_sha256(self.ids)
        found: list[Fault] = []

        def hold(field: str, said: object, is_so: bool, wanted: str) -> None:
            if said is not None and not is_so:
                found.append((field, said, wanted))

        hold("dataset.n", said := dataset.get("n"), said == n, f"{n}, the items of {SAMPLES}")
        said = dataset.get("item_ids_sha256")
        hold("dataset.item_ids_sha256", said, said == digest, f"{digest}, of the ids in {SAMPLES} in their order")
        if "prompts" not in self._unknown and not (self.guesses and record.get("imported")):
            made, said = self._prompts.hexdigest(), record.get("prompts_sha256")
            hold("prompts_sha256", said, said == made, f"{made}, of the prompts in {SAMPLES} in their order")
        for name, total in self._totals.items():
            if name not in self._unknown:
                said = cost.get(name)
                hold(f"cost.{name}", said, said == total, f"{total}, the sum over {SAMPLES}")
        if "seconds" not in self._unknown:
            said = cost.get("seconds")
            near = said is None or abs(said - seconds) <= 0.0006 + _ROUNDING * said
            hold("cost.seconds", said, near, f"{seconds:.3f}, the sum of compute_ms over {SAMPLES}")
        if not self._unknown & {"seconds", "tokens_in", "tokens_out"} and seconds > 0:
            rate, said = (self._totals["tokens_in"] + self._totals["tokens_out"]) / seconds, cost.get("tokens_per_s")
            near = said is None or abs(said - rate) <= 0.06 + _ROUNDING * rate
            hold("cost.tokens_per_s", said, near, f"{rate:.1f}, the tokens over the seconds of {SAMPLES}")
        if (limit := record.get("limit")) is not None:
            hold("limit", limit, n <= limit, f"{n} or more, the items of {SAMPLES}")
        return found

    def own_faults(self, record: JsonObject) -> list[Fault]:
        """The same of what slmbench's own runs alone say: remarks that are counted, and latencies."""
        found: list[Fault] = []
        remarks = record.get("remarks") or {}
        name = str(record.get("format"))
        kind = load_format(name).kind if name in format_names() else None
        counts = {f"{NOT_IN_FORMAT} {name}": self._faults_of_format}
        if None not in self._ended:
            counts[AT_LIMIT] = self._ended.get("length", 0)
            if kind is not None:  # An object's end is a stop string, too.
                counts[AT_STOP] = self._ended.get("stop", 0) if kind != "object" else 0
        if "n_truncated" not in self._unknown:
            counts[CUT] = self._totals["n_truncated"]
        for remark, count in counts.items():
            if (said := remarks.get(remark, 0)) != count:
                found.append((f"remarks.{remark!r}", said, f"{count}, as {SAMPLES} has it"))
        cost, alone = record["cost"], record.get("latency") is not None
        for name, percent in (("latency_p50_ms", 50), ("latency_p90_ms", 90)):
            said, value = cost.get(name), _quantile(self._latencies, percent) if alone and self._latencies else None
            if (said is None) != (value is None):
                found.append((f"cost.{name}", said, f"{value}, as latency is {record.get('latency')!r}"))
            elif said is not None and value is not None and abs(said - value) > 0.001 + 1e-6 * value:
                found.append((f"cost.{name}", said, f"{value:.3f}, of latency_ms in {SAMPLES}"))
        return found


def _quantile(values: list[float], percent: int) -> float:
    return values[0] if len(values) == 1 else quantiles(values, n=100, method="inclusive")[percent - 1]
