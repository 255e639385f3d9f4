"""Whether metrics reward the gold answer, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from slmbench.checks._findings import Findings, short
from slmbench.metrics import Scorer
from slmbench.values import Example, Output

WRONG_ANSWERS = ("", " no answer of this task #### 90817263545362718")


def check_choices(example: Example, found: Findings) -> None:
    """Finds options that are the same text, spacing aside."""
    plain = [" ".join(choice.split()) for choice in example.choices]
    for choice in dict.fromkeys(choice for choice in plain if plain.count(choice) > 1):
        fault = found.document.problem(("choices",), f"the choice {short(choice)} is there twice; one can't be right")
        found.of_row("choices", fault, example.id)


def check_scores(scorers: Sequence[Scorer], example: Example, stop: Sequence[str], found: Findings) -> None:
    """Finds scorers that don't give the gold answer their maximum, or give a wrong one anything.

    A binary scorer gives gold 1.0 and a wrong answer 0.0. Any other gives the gold answer what it gives a copy of the
    reference (ROUGE-2 of one word is 0 even then), 1.0 in one value at least.
    """
    for i, scorer in enumerate(scorers):
        where = ("metrics", i)
        try:
            text = scorer.kind == "text"
            faults = list(_text_faults(scorer, example, stop) if text else _choice_faults(scorer, example))
        except ValueError as error:
            faults = [f"can't be computed: {error}"]
        for fault in faults:
            found.of_row(fault.split(":")[0], found.document.problem(where, f"{scorer.name} {fault}"), example.id)


def _text_faults(scorer: Scorer, example: Example, stop: Sequence[str]) -> Iterable[str]:
    answer = f"{example.reasoning}\n{example.answer}" if example.reasoning is not None else example.answer
    written, stopped_by = _until_stop(f" {answer}", stop)
    gold = scorer.score(example, Output(text=written))
    cut = f"; the stop string {stopped_by!r} cuts it off" if stopped_by else ""
    if scorer.binary:
        yield from (
            f"of the gold answer is {value:g}, not 1: the answer is {short(answer)}{cut}"
            for value in gold.values()
            if value != 1.0
        )
        for wrong in WRONG_ANSWERS:
            what = "an empty output" if not wrong else "a wrong output"
            values = scorer.score(example, Output(text=wrong)).values()
            yield from (f"of {what} is {value:g}, not 0: the answer is {short(answer)}" for value in values if value)
        return
    copy = scorer.score(example, Output(text=(example.references or (answer,))[0]))
    lower = [name for name in gold if gold[name] < copy[name] - 1e-9]
    if lower:
        yield f"of the gold answer is less than of a copy of the reference, in {', '.join(lower)}: {short(answer)}{cut}"
    elif max(gold.values()) < 1.0 - 1e-9:
        yield f"of the gold answer is {max(gold.values()):g} at most: it reads nothing in {short(answer)}"


def _choice_faults(scorer: Scorer, example: Example) -> Iterable[str]:
    n, gold = len(example.choices), example.gold or 0
    # Zero stays zero per character, so that one set of numbers does for accuracy and accuracy_norm.
    for best in range(n):
        loglikelihoods = tuple(0.0 if i == best else -float(max(1, len(example.choices[i]))) for i in range(n))
        expected = float(best == gold)
        for value in scorer.score(example, Output(loglikelihoods=loglikelihoods)).values():
            if value != expected:
                which = "the gold choice" if best == gold else "a wrong choice"
                yield f"is {value:g}, not {expected:g}, with {which} likeliest: choice {best}, gold {gold}"


def _until_stop(text: str, stop: Sequence[str]) -> tuple[str, str]:
    """What is left of a text that generation stops in, and the stop string; '' where none occurs."""
    places = [(text.index(one), one) for one in stop if one and one in text]
    if not places:
        return text, ""
    end, which = min(places)
    return text[:end], which
