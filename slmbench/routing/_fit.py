"""A router fitted on texts of tasks: heads tried on rows apart, one of them chosen, and its threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import evolve, frozen

from slmbench.console import phase
from slmbench.errors import UsageError, did_you_mean
from slmbench.models import AdapterInfo, LoadedModel
from slmbench.routing._base_texts import BASE_TEXTS
from slmbench.routing._choose import Threshold, choose_head, choose_threshold
from slmbench.routing._features import BaseFeatures
from slmbench.routing._heads import Labeled, RouterHead
from slmbench.routing._router import Router, RouterBase, RouterClass, routed_adapters
from slmbench.routing._texts import TaskTexts
from slmbench.routing.arrow import ArrowHead
from slmbench.routing.centroid import CentroidHead
from slmbench.routing.length import LengthHead
from slmbench.routing.logistic import LogisticHead
from slmbench.routing.tfidf import TfidfHead
from slmbench.statistics.estimate import estimate
from slmbench.values import Array, JsonObject

HEADS: dict[str, type[RouterHead]] = {
    head.name: head for head in (TfidfHead, CentroidHead, LogisticHead, ArrowHead, LengthHead)
}
_FITS: dict[str, Callable[[Labeled, BaseFeatures], RouterHead]] = {
    "tfidf": lambda rows, base: TfidfHead.fit(rows),
    "centroid": CentroidHead.fit,
    "logistic": LogisticHead.fit,
    "length": lambda rows, base: LengthHead.fit(rows),
}
ALWAYS = ("tfidf", "length")
"""Fitted beside whatever was asked for."""
TRIED = (*ALWAYS, "centroid", "logistic")
"""By `auto`, which takes one of them, but never the length."""


@frozen(eq=False)
class ScoredTexts:
    """Texts that no adapter was trained on, and what the tasks' metrics give the answers to them; higher is better.

    adapters: (texts, adapters), in the adapters' order; base: (texts,). tasks: of each text.
    """

    texts: Sequence[str]
    tasks: Sequence[str]
    base: Array
    adapters: Array


@frozen(eq=False)
class _Tried:
    """correct: for each validation text, whether the class is found. outcome: as `choose_head` takes it."""

    head: RouterHead
    threshold: Threshold
    correct: list[float]
    outcome: list[float]


def fit_router(
    texts: Sequence[TaskTexts],
    adapters: Mapping[str, AdapterInfo],
    tasks: Mapping[str, str],
    loaded: LoadedModel,
    *,
    head: str = "auto",
    unknown: Sequence[str] = BASE_TEXTS,
    scored: ScoredTexts | None = None,
    seed: int = 0,
) -> Router:
    """A router between adapters, fitted on texts of their tasks; TF-IDF and length are fitted beside the head.

    texts: of each task, as `texts_of` draws them. adapters: name -> an adapter. tasks: task -> the name of its adapter.
    loaded: the base, without an adapter. head: one of `HEADS`, or auto. unknown: texts that belong to no adapter, for
    the threshold. scored: it is chosen by what these texts score, in place of the validation texts and the unknown
    ones (`choose_threshold`). Without any texts there is the head arrow alone, and no threshold: nothing tells what
    would be lost. The router's facts say what each head reached. Raises UsageError for an unknown head, no adapter, or
    an adapter that nothing tells from the others.
    """
    import numpy as np

    if head != "auto" and head not in HEADS:
        raise UsageError(f"there is no head {head!r}{did_you_mean(head, ['auto', *HEADS])}")
    if not adapters:
        raise UsageError("a router needs an adapter to send texts to; give one with --adapter")
    base = BaseFeatures(loaded, keep=True)
    if not texts and head in ("auto", ArrowHead.name):
        return _without_rows(adapters, loaded, base, seed)
    classes = tuple(RouterClass(tasks[one.task], one.task) for one in texts)
    routed = routed_adapters(adapters, {one.task: tasks[one.task] for one in texts})
    if untold := [one.name for one in routed if not one.tasks]:
        raise UsageError(
            f"nothing tells when adapter {untold[0]!r} is meant: no task is given for it; name one with --tasks, or "
            "give tasks of none of them and use the head arrow, which reads the adapters' own weights"
        )
    rows = Labeled(
        [text for one in texts for text in one.fit],
        [label for label, one in enumerate(texts) for _ in one.fit],
        len(classes),
    )
    there = [text for one in texts for text in one.validation]
    labels = [label for label, one in enumerate(texts) for _ in one.validation]
    position = {name: number for number, name in enumerate(adapters)}
    owners = [position[one.adapter] for one in classes]
    right = [owners[label] for label in labels]
    router = Router(LengthHead.fit(rows), classes, routed, RouterBase.of(loaded), loaded=loaded)

    def levels(made: RouterHead, texts: Sequence[str]) -> Array:
        return router.adapter_scores(made.shares(texts, base) if texts else np.zeros((0, len(classes))))

    tried: dict[str, _Tried] = {}
    for name in TRIED if head == "auto" else dict.fromkeys([*ALWAYS, head]):
        with phase(f"head {name}"):
            made = ArrowHead.fit(adapters, owners, base) if name == ArrowHead.name else _FITS[name](rows, base)
            shares = made.shares(there, base)
            tried[name] = _try(made, shares, labels, router.adapter_scores(shares), levels(made, unknown), right)
    # A head that tells the tasks apart less often is no match for TF-IDF, whatever it does with unknown texts.
    least = sum(tried[TfidfHead.name].correct)
    able = {name: one for name, one in tried.items() if name != LengthHead.name and sum(one.correct) >= least}
    choice = choose_head({name: one.outcome for name, one in able.items()})
    chosen = tried[choice.name if head == "auto" else head]
    threshold = chosen.threshold
    if scored is not None:
        threshold = choose_threshold(
            levels(chosen.head, scored.texts),
            [position[tasks[task]] for task in scored.tasks],
            levels(chosen.head, unknown),
            (scored.base, scored.adapters),
        )
    router = evolve(router, head=chosen.head)
    facts: JsonObject = {
        "seed": seed,
        "why": choice.why if head == "auto" else f"{head} was asked for; {choice.why}",
        "rows": {one.task: {"fit": len(one.fit), "validation": len(one.validation)} for one in texts},
        "unknown_texts": len(unknown),
        "heads": {name: _facts(one) for name, one in tried.items()},
        "threshold": _threshold_facts(threshold, len(labels if scored is None else scored.texts)),
    }
    return evolve(router, threshold=threshold.value, facts=facts)


def _without_rows(adapters: Mapping[str, AdapterInfo], loaded: LoadedModel, base: BaseFeatures, seed: int) -> Router:
    """By the adapters' own weights. A task is known where an adapter was trained on it alone."""
    own = {name: list(info.record.tasks) for name, info in adapters.items()}
    classes = tuple(RouterClass(name, tasks[0] if len(tasks) == 1 else None) for name, tasks in own.items())
    with phase(f"head {ArrowHead.name}"):
        head = ArrowHead.fit(adapters, range(len(adapters)), base)
    facts: JsonObject = {"seed": seed, "why": "arrow: there are no rows of tasks", "rows": {}, "heads": {}}
    return Router(head, classes, routed_adapters(adapters, {}), RouterBase.of(loaded), 0.0, facts, loaded)


def _try(
    head: RouterHead, shares: Array, labels: Sequence[int], known: Array, strange: Array, right: Sequence[int]
) -> _Tried:
    """shares: (validation texts, classes), labels: the class of each; known, strange, right: as of the threshold."""
    threshold = choose_threshold(known, right, strange)
    correct = [float(found == label) for found, label in zip(shares.argmax(1), labels, strict=True)]
    routed = known.max(axis=1) >= threshold.value
    outcome = [float(at and best == own) for at, best, own in zip(routed, known.argmax(1), right, strict=True)]
    outcome += [float(level < threshold.value) for level in strange.max(axis=1)] if len(strange) else []
    return _Tried(head, threshold, correct, outcome)


def _facts(one: _Tried) -> JsonObject:
    found = estimate(one.correct, range=(0.0, 1.0))
    return {
        "accuracy": found.value,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "n": found.n,
        "false_routes": one.threshold.false_routes,
        "to_base": one.threshold.to_base,
    }


def _threshold_facts(threshold: Threshold, n: int) -> JsonObject:
    return {
        "rows": n,
        "by": threshold.by,
        "reached": threshold.reached,
        "false_routes": threshold.false_routes,
        "to_base": threshold.to_base,
    }
