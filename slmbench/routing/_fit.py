"""A router fitted on texts of tasks: heads tried on rows apart, one of them chosen, and its threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

from slmbench.console import phase
from slmbench.errors import UsageError, did_you_mean
from slmbench.models import AdapterInfo, LoadedModel
from slmbench.routing._base_texts import BASE_TEXTS
from slmbench.routing._choose import Threshold, choose_head, choose_threshold
from slmbench.routing._features import BaseFeatures
from slmbench.routing._heads import Labeled, RouterHead
from slmbench.routing._router import RoutedAdapter, Router, RouterBase, RouterClass, routed_adapters
from slmbench.routing._texts import TaskTexts
from slmbench.routing.length import LengthHead
from slmbench.routing.tfidf import TfidfHead
from slmbench.statistics.estimate import estimate
from slmbench.values import Array, JsonObject

Fit = Callable[[Labeled, BaseFeatures, Mapping[str, AdapterInfo]], RouterHead]
HEADS: dict[str, type[RouterHead]] = {head.name: head for head in (TfidfHead, LengthHead)}
_FITS: dict[str, Fit] = {
    "tfidf": lambda rows, base, adapters: TfidfHead.fit(rows),
    "length": lambda rows, base, adapters: LengthHead.fit(rows),
}
TRIED = ("tfidf", "length")
"""By `auto`: of these the length is never taken."""


@frozen(eq=False)
class _Tried:
    head: RouterHead
    shares: Array  # (validation texts, classes), float64
    correct: list[float]


def fit_router(
    texts: Sequence[TaskTexts],
    adapters: Mapping[str, AdapterInfo],
    tasks: Mapping[str, str],
    loaded: LoadedModel,
    *,
    head: str = "auto",
    unknown: Sequence[str] = BASE_TEXTS,
    scores: tuple[Array, Array] | None = None,
    seed: int = 0,
) -> Router:
    """A router between adapters, fitted on texts of their tasks; TF-IDF and length are fitted beside the head.

    texts: of each task, as `texts_of` draws them. adapters: name -> an adapter. tasks: task -> the name of its adapter.
    loaded: the base, without an adapter. head: one of `HEADS`, or auto. unknown: texts that belong to no adapter, for
    the threshold. scores: of the validation texts in the order of `texts`, see `choose_threshold`. The router's facts
    say what each head reached. Raises UsageError for an unknown head, fewer than one adapter, or an adapter without a
    task that it could be told by.
    """
    if head != "auto" and head not in HEADS:
        raise UsageError(f"there is no head {head!r}{did_you_mean(head, ['auto', *HEADS])}")
    classes = tuple(RouterClass(tasks[one.task], one.task) for one in texts)
    routed = routed_adapters(adapters, {one.task: tasks[one.task] for one in texts})
    _refuse_untold(routed)
    base = BaseFeatures(loaded, keep=True)
    rows = Labeled(
        [text for one in texts for text in one.fit],
        [label for label, one in enumerate(texts) for _ in one.fit],
        len(classes),
    )
    there = [text for one in texts for text in one.validation]
    labels = [label for label, one in enumerate(texts) for _ in one.validation]
    tried: dict[str, _Tried] = {}
    for name in dict.fromkeys([*TRIED, *([] if head == "auto" else [head])]):
        with phase(f"head {name}"):
            tried[name] = _try(_FITS[name](rows, base, adapters), there, labels, base)
    choice = choose_head({name: one.correct for name, one in tried.items() if name != LengthHead.name})
    name = choice.name if head == "auto" else head
    made = Router(tried[name].head, classes, routed, RouterBase.of(loaded), loaded=loaded)
    position = {adapter: number for number, adapter in enumerate(made.names)}
    threshold = choose_threshold(
        made.adapter_scores(tried[name].shares),
        [position[classes[label].adapter] for label in labels],
        made.adapter_scores(made.shares(list(unknown))) if unknown else made.adapter_scores(tried[name].shares[:0]),
        scores,
    )
    facts: JsonObject = {
        "seed": seed,
        "why": choice.why if head == "auto" else "as asked for",
        "rows": {one.task: {"fit": len(one.fit), "validation": len(one.validation)} for one in texts},
        "unknown_texts": len(unknown),
        "heads": {name: _facts(one) for name, one in tried.items()},
        "threshold": _threshold_facts(threshold),
    }
    return Router(made.head, classes, routed, made.base, threshold.value, facts, loaded)


def _try(head: RouterHead, texts: Sequence[str], labels: Sequence[int], base: BaseFeatures) -> _Tried:
    shares = head.shares(texts, base)
    return _Tried(head, shares, [float(found == label) for found, label in zip(shares.argmax(1), labels, strict=True)])


def _facts(one: _Tried) -> JsonObject:
    found = estimate(one.correct, range=(0.0, 1.0))
    return {"accuracy": found.value, "ci_low": found.ci_low, "ci_high": found.ci_high, "n": found.n}


def _threshold_facts(threshold: Threshold) -> JsonObject:
    return {
        "by": threshold.by,
        "reached": threshold.reached,
        "false_routes": threshold.false_routes,
        "to_base": threshold.to_base,
    }


def _refuse_untold(adapters: Sequence[RoutedAdapter]) -> None:
    if not adapters:
        raise UsageError("a router needs an adapter to send texts to; give one with --adapter")
    if untold := [one.name for one in adapters if not one.tasks]:
        raise UsageError(
            f"nothing tells when adapter {untold[0]!r} is meant: no task is given for it; name one with --tasks, or "
            "use the head arrow, which reads the adapters' own weights"
        )
