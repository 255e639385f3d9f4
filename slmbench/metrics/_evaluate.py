"""Scorers as `evaluate.Metric`s: they need no network, no metric script and no cache folder."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from slmbench.metrics._scorer import Scorer
from slmbench.values import Array, Example, Output

if TYPE_CHECKING:
    import evaluate

_TEXT_INPUTS = """
predictions: list of str. references: list of str, or list of lists of str where several texts count as right.
"""
_CHOICE_INPUTS = """
predictions: list of lists of float, the options' summed log-likelihoods. references: list of int, the right options,
counted from 0.
"""
_CHOICE_TEXTS = """choices: list of lists of str, the options' texts without the delimiter before them.
"""
_CODE_INPUTS = """
predictions: list of lists, one a problem, of what became of each sample: passed, failed, timed out or died, or True and
False for passed and failed. references aren't read.
"""
_TARGET_INPUTS = """
predictions: list of float, the targets' summed log-likelihoods. references: list of str, the targets as scored.
"""
_VERDICTS = {True: "passed", False: "failed"}


def as_evaluate_metric(scorer: Scorer, **options: object) -> evaluate.Metric:
    """The scorer behind `compute(predictions=..., references=...)`, which returns the mean of each of its values.

    Of a pooled scorer it returns what its `pool` makes of all items. A scorer of code takes predictions alone.
    options: what `evaluate.Metric` takes. Data stays in memory unless num_process > 1 or keep_in_memory=False.
    compute raises ValueError for no items, for lengths that differ, and for an item that can't be scored, by its
    index. Other keyword arguments of compute are ignored: `evaluate.combine` hands each to every metric.
    """
    options.setdefault("keep_in_memory", options.get("num_process", 1) == 1)
    return _metric_class(scorer)(**options)


@cache
def _metric_class(scorer: Scorer) -> type[evaluate.Metric]:
    # Here, because evaluate imports datasets and takes seconds.
    import evaluate
    import numpy as np
    from datasets import Features, Sequence, Value

    if scorer.kind == "text":
        features = Features({"predictions": Value("string"), "references": Sequence(Value("string"))})
        inputs = _TEXT_INPUTS
    elif scorer.kind == "target":
        features = Features({"predictions": Value("float64"), "references": Value("string")})
        inputs = _TARGET_INPUTS
    elif scorer.kind == "code":
        features = Features({"predictions": Sequence(Value("string"))})
        inputs = _CODE_INPUTS
    else:
        features = Features({"predictions": Sequence(Value("float64")), "references": Value("int64")})
        inputs = _CHOICE_INPUTS
        if scorer.reads_choices:
            features["choices"] = Sequence(Value("string"))
            inputs += _CHOICE_TEXTS

    class ScorerMetric(evaluate.Metric):
        __doc__ = scorer.description

        def _info(self) -> evaluate.MetricInfo:
            return evaluate.MetricInfo(
                description=scorer.description, citation=scorer.citation, inputs_description=inputs, features=features
            )

        def _build_data_dir(self) -> str:
            # Nothing is written when data stays in memory: a home folder that is read-only must not matter.
            return str(self._data_dir_root) if self.keep_in_memory else super()._build_data_dir()

        def compute(
            self, *, predictions: object = None, references: object = None, **columns: object
        ) -> dict[str, float] | None:
            """Mean of each value over the items given here or added before. Raises ValueError if there are none."""
            if predictions is None and references is None and self.writer is None:
                raise ValueError(f"{scorer.name}: nothing was added; there is no mean over no items")
            values: dict[str, float] | None = super().compute(predictions=predictions, references=references, **columns)
            return values

        def add_batch(self, *, predictions: Array = None, references: Array = None, **columns: Array) -> None:
            """Keep the items until compute(). Raises ValueError for an empty batch."""
            given = {"predictions": predictions, "references": references, **columns}
            for column, rows in given.items():
                if column == "references" and scorer.kind == "code":
                    continue
                if isinstance(rows, str):
                    raise ValueError(f"{scorer.name}: {column} must be a list of items, got the text {rows[:80]!r}")
                if rows is None or len(rows) == 0:
                    raise ValueError(f"{scorer.name}: {column} is empty; there is no mean over no items")
            references = None if scorer.kind == "code" else [listed(row) for row in references]
            super().add_batch(predictions=[verdicts(row) for row in predictions], references=references, **columns)

        def add(self, *, prediction: object = None, reference: object = None, **columns: object) -> None:
            """Keep one item until compute()."""
            super().add(prediction=verdicts(prediction), reference=listed(reference), **columns)

        def _compute(
            self, predictions: Array, references: Array = None, choices: Array = None, **_: object
        ) -> dict[str, float]:
            golds = [None] * len(predictions) if scorer.kind == "code" else references
            texts = choices if scorer.reads_choices else [()] * len(predictions)
            items = list(map(item_of, range(len(predictions)), predictions, golds, texts))
            if scorer.pool is not None and scorer.parts is not None:
                return scorer.pool([scorer.parts(*item) for item in items])
            scores = scorer.scores(items)
            return {value: sum(score[value] for score in scores) / len(scores) for value in scorer.values}

    def listed(reference: object) -> object:
        # One column type for both forms: where rows mix them, datasets would take a text for a list of its letters.
        return [reference] if scorer.kind == "text" and isinstance(reference, str) else reference

    def verdicts(prediction: Array) -> Array:
        if scorer.kind != "code" or prediction is None or isinstance(prediction, str):
            return prediction
        return [_VERDICTS[bool(each)] if isinstance(each, (bool, np.bool_)) else each for each in prediction]

    def item_of(index: int, prediction: Array, reference: Array, choices: Array) -> tuple[Example, Output]:
        sides = [("prediction", prediction)] + ([("reference", reference)] if scorer.kind != "code" else [])
        absent = [side for side, value in sides if value is None]
        absent += ["reference"] if reference == [] else []
        absent += ["choices"] if choices is None else []
        if absent:
            raise ValueError(f"{scorer.name}: item {index} has no {absent[0]}")
        if scorer.kind == "choice":
            example = Example(id=str(index), fields={}, answer="", choices=tuple(choices), gold=reference)
            return example, Output(loglikelihoods=tuple(prediction))
        if scorer.kind == "code":
            return Example(id=str(index), fields={}, answer=""), Output(verdicts=tuple(prediction))
        if scorer.kind == "target":
            scored = Output(
                target_loglikelihood=prediction, target_bytes=len(reference.encode("utf-8", "surrogatepass"))
            )
            return Example(id=str(index), fields={}, answer=reference), scored
        example = Example(id=str(index), fields={}, answer=reference[0], references=tuple(reference))
        return example, Output(text=prediction)

    # evaluate names a metric after its class, and `combine` prefixes clashing values with that name.
    words = scorer.name.replace("/", "_").replace("@", "_at_").split("_")
    ScorerMetric.__name__ = "".join(word.capitalize() for word in words)
    ScorerMetric.__qualname__ = ScorerMetric.__name__
    return ScorerMetric
