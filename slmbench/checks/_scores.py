"""Whether metrics reward the gold answer, and nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from attrs import frozen

from slmbench.checks._findings import Findings, short
from slmbench.checks._formats import Reading, Written, distinct, until_stop
from slmbench.errors import SlmbenchError
from slmbench.formats import load_format
from slmbench.hub import staying_offline
from slmbench.metrics import Scorer
from slmbench.task import Task
from slmbench.values import Example, Output

# No word of it is in any answer; the mark is for metrics that read what follows one.
WRONG_ANSWERS = ("", " qzxv #### 90817263545362718")
ROUNDING = 1e-6
MODEL_ROWS = 3
"""Golden rows that a metric with a model of its own is tried on, and no others."""


def check_choices(example: Example, found: Findings) -> None:
    """Finds options that are the same text, spacing aside."""
    plain = [" ".join(choice.split()) for choice in example.choices]
    for choice in dict.fromkeys(choice for choice in plain if plain.count(choice) > 1):
        fault = found.document.problem(
            ("choices",), f"the choice {short(choice)} appears twice; one of them can't be right"
        )
        found.of_row("choices", fault, example.id)


@frozen
class _Fault:
    """What is wrong with a metric's value. quirk: what to say of such a gold answer if only some of a split have it."""

    message: str
    quirk: str = ""


def check_scores(task: Task, rows: Sequence[Written], where: str, mode: str, found: Findings) -> None:
    """Finds scorers that don't give the gold answer their maximum, or give a wrong one anything.

    Gold scores 1.0, or what a copy of the reference does (ROUGE-2 of one word is 0 even then), 1.0 in one value at
    least. A wrong answer scores 0; of a metric with a model of its own, less than gold. What is scored are the gold
    answer's readings, each text once; of code tasks, what a sample that passed and one that failed would score.

    A metric that describes (`Scorer.describes`) is only computed: there is nothing that it would have to say of gold.

    mode: what to say of the chain of thought. where: the split, '' for golden rows. Up to half of a split may have a
    quirk that comes with the data and published settings, and is a notice then: an answer that a stop string cuts
    (nq_open stops at commas), or that the metric reads nothing in (SQuAD's drops the word A).
    """
    for i, scorer in enumerate(task.scorers):
        if scorer.ready is not None and (reason := _why_not_ready(scorer)):
            found.unchecked.add(scorer.name)
            found.note(f"metric {scorer.name} was not checked: {reason}")
            continue
        if scorer.ready is not None and (where or mode):
            continue  # The golden rows are short, and enough to tell.
        tried = rows[:MODEL_ROWS] if scorer.ready is not None else rows
        quirks: dict[str, list[tuple[_Fault, str]]] = defaultdict(list)
        for row in tried:
            try:
                faults = list(_faults(task, scorer, row))
            except ValueError as error:
                faults = [_Fault(f"can't be computed: {error}")]
            for fault in faults:
                quirks[fault.quirk].append((fault, row.example.id))
        for quirk, seen in quirks.items():
            ids = dict.fromkeys(item for _, item in seen)
            if quirk and where and 2 * len(ids) <= len(tried):
                first = next(iter(ids))
                found.note(f"{len(ids)} of {len(tried)} gold answers of split {where!r} {quirk} ({first} first)")
                continue
            for fault, item in seen:
                found.of_metric(scorer.name, ("metrics", i), fault.message + mode, item)


def _faults(task: Task, scorer: Scorer, row: Written) -> Iterable[_Fault]:
    if scorer.reads_target:
        return ()  # It reads a model's log-likelihood, of which golden rows say nothing.
    if scorer.describes:
        return _fault_of_describing(task, scorer, row.example)
    if scorer.kind == "text":
        return _text_faults(task, scorer, row.example, distinct(row.readings))
    return _choice_faults(task, scorer, row.example) if scorer.kind == "choice" else _code_faults(scorer, row.example)


def _text_faults(task: Task, scorer: Scorer, example: Example, readings: Mapping[str, Reading]) -> Iterable[_Fault]:
    answer = task.answer(example)
    golds = [_score(task, scorer, example, reading.text) for reading in readings.values()]
    for reading, gold in zip(readings.values(), golds, strict=True):
        yield from _gold_faults(task, scorer, example, reading, gold)
    for wrong in WRONG_ANSWERS if golds else ():
        what = "an empty output" if not wrong else "a wrong output"
        quirk = f"give an empty output a score, as {scorer.name} reads nothing in them" if answer.strip() else ""
        for name, value in _score(task, scorer, example, wrong).items():
            if scorer.ready is not None and value >= golds[0][name]:
                yield _Fault(f"of {what} is {value:g}, no less than of the gold answer: the answer is {short(answer)}")
            elif scorer.ready is None and value:
                message = f"of {what} is {value:g}, not 0: the answer is {short(answer)}"
                yield _Fault(message, "" if wrong else quirk)


def _fault_of_describing(task: Task, scorer: Scorer, example: Example) -> Iterable[_Fault]:
    for text in (task.answer(example), *WRONG_ANSWERS):
        _score(task, scorer, example, text)  # Raises ValueError where it can't be computed.
    return ()


def _score(task: Task, scorer: Scorer, example: Example, text: str) -> dict[str, float]:
    return scorer.score(*task.judged(scorer, example, Output(text=text)))


def _gold_faults(
    task: Task, scorer: Scorer, example: Example, reading: Reading, gold: Mapping[str, float]
) -> Iterable[_Fault]:
    if _is_full(gold):
        return
    stopped_by = reading.stopped_by
    # References lack the reasoning and the mark, so that in a chain of thought they say nothing of what is cut there.
    excusable = bool(stopped_by) and example.reasoning is None
    style = load_format(reading.format, task.plugins)
    stop = style.stop(task.in_format(style).stop)
    others = (until_stop(f" {text}", stop)[0] for text in example.references if excusable)
    if any(_is_full(_score(task, scorer, example, text)) for text in others):
        return  # Another text that counts as right comes through.
    after = f"; the stop string {stopped_by!r} cuts it off" if stopped_by else ""
    quirk = f"can't score 1, as the stop string {stopped_by!r} cuts them off" if stopped_by else ""
    after += f" (format {reading.format})" if reading.format != "plain" else ""
    answer = task.answer(example)
    if scorer.binary:
        message = f"of the gold answer is {min(gold.values()):g}, not 1: the answer is {short(answer)}{after}"
        yield _Fault(message, quirk)
        return
    copy = scorer.score(example, Output(text=(example.references or (answer,))[0]))
    lower = ", ".join(name for name in gold if gold[name] < copy[name] - ROUNDING)
    if lower:
        message = f"of the gold answer is less than of a copy of the reference: in {lower}: {short(answer)}{after}"
        yield _Fault(message, quirk)
    elif max(gold.values()) < 1.0 - ROUNDING:
        yield _Fault(
            f"of the gold answer is {max(gold.values()):g} at most: it reads nothing in {short(answer)}{after}"
        )


def _is_full(values: Mapping[str, float]) -> bool:
    return all(value >= 1.0 - ROUNDING for value in values.values())


def _choice_faults(task: Task, scorer: Scorer, example: Example) -> Iterable[_Fault]:
    n, gold = len(example.choices), example.gold or 0
    values_of: dict[int, dict[str, float]] = {}
    for best in range(n):
        # Zero stays zero per character or byte, so that one set of numbers does for every kind of accuracy.
        loglikelihoods = tuple(0.0 if i == best else -float(max(1, len(example.choices[i]))) for i in range(n))
        expected = float(best == gold)
        judged = task.judged(scorer, example, Output(loglikelihoods=loglikelihoods))
        values_of[best] = scorer.score(*judged)
        for value in values_of[best].values() if scorer.range is not None else ():
            if value != expected:
                which = "the gold choice" if best == gold else "a wrong choice"
                message = f"is {value:g}, not {expected:g}, with {which} likeliest: choice {best}, gold {gold}"
                yield _Fault(message)
    if scorer.range is None:  # Without a best value, right is what is better than wrong.
        sign = 1 if scorer.higher_is_better else -1
        for name, value in values_of[gold].items():
            others = {best: values[name] for best, values in values_of.items() if best != gold}
            for best, other in others.items():
                if not sign * value > sign * other:
                    yield _Fault(f"is {value:g} with the gold choice {gold} likeliest, {other:g} with choice {best}")


def _code_faults(scorer: Scorer, example: Example) -> Iterable[_Fault]:
    for verdict, expected in (("passed", 1.0), ("failed", 0.0)):
        for value in scorer.score(example, Output(verdicts=(verdict,) * scorer.samples)).values():
            if value != expected:
                yield _Fault(f"of programs that {verdict} is {value:g}, not {expected:g}")


@lru_cache(maxsize=8)
def _why_not_ready(scorer: Scorer) -> str:
    """Why a metric can't work on this machine, '' where it can. Asked once a process: it may load a model."""
    assert scorer.ready is not None
    try:
        with staying_offline():  # A check downloads nothing, not even a metric's weights.
            scorer.ready()
    except SlmbenchError as error:
        return str(error)
    return ""
