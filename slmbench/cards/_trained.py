"""What training.json says of rows, contamination, parity, time and memory, as lines of a card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slmbench.cards._facts import CardData
from slmbench.cards._text import plain, table
from slmbench.leaderboard.texts import count, duration, size
from slmbench.runs import TrainedTask, TrainingRecord

_REASON = "contamination"
_LEVELS = {"exact": "the same text", "normalised": "the same words", "ngram": "a run of words in common"}


def training_lines(training: TrainingRecord, data: Sequence[CardData]) -> Iterator[str]:
    """What was trained on, then a line for each thing that a reader asks of a training."""
    if training.tasks:
        yield from table(
            ["task", "data set", "rows", "tokens", "share", "cut prompts", "cut answers", "left out"],
            _rows(training, data),
            left=2,
        )
        yield ""
    steps = [
        f"{training.steps:,} steps" if training.steps is not None else "",
        f"of which it went on {len(training.resumed_from)} times" if training.resumed_from else "",
        duration(training.train_s) if training.train_s is not None else "",
        f"{training.tokens_per_second:g} tokens a second" if training.tokens_per_second is not None else "",
    ]
    parameters = training.trainable_parameters
    trained = [f"{count(parameters)} trained parameters"] if parameters is not None else []
    how = [training.how() or "", *trained, f"seed {training.seed}" if training.seed is not None else ""]
    if told := [one for one in (*how, *steps) if one]:
        yield f"- {plain(', '.join(told))}"
    if (peak := training.memory.peak_bytes or training.ram_peak_bytes) is not None:
        forecast = training.memory.forecast
        of = forecast.forecast_bytes if forecast is not None else None
        yield f"- peak memory {size(peak)}" + ("" if of is None else f", of {size(of)} that were forecast")
    yield from _contamination(training.contamination, training.tasks)
    yield from _parity(training.tasks)


def _rows(training: TrainingRecord, data: Sequence[CardData]) -> Iterator[list[str]]:
    of = {one.task: one for one in data}
    for task, part in training.tasks.items():
        share = training.mixture.tasks[task].share if task in training.mixture.tasks else None
        named = of.get(task)
        reasons = ", ".join(f"{n:,} {plain(why)}" for why, n in part.dropped.items() if n)
        left_out = _amount(part.dropped_rows) + (f" ({reasons})" if reasons else "")
        yield [
            plain(task),
            "" if named is None else plain(named.hub or named.dataset or ""),
            _amount(part.rows),
            _amount(part.tokens),
            "" if share is None else f"{share:.1%}",
            _amount(part.truncated_rows),
            _amount(part.truncated_answers),
            left_out,
        ]


def _contamination(told: Mapping[str, Any] | None, tasks: Mapping[str, TrainedTask]) -> Iterator[str]:
    """A line for what is clean, one for each overlap; none of the rows' own texts."""
    if told is None:
        return
    found = [one for one in _objects(told.get("overlaps")) if not one.get("golden")]
    shared = [one for one in found if any(_whole(one.get(level)) for level in _LEVELS)]
    splits = list(dict.fromkeys(str(one.get("evaluation")) for one in found))
    if found:
        rows = sum({str(one.get("training")): _whole(one.get("training_rows")) for one in found}.values())
        said = "some are shared" if shared else "none is shared"
        gone = sum(part.dropped.get(_REASON, 0) for part in tasks.values())
        said += f"; {gone:,} rows were left out for it" if gone else ""
        yield f"- contamination: {rows:,} training rows beside the items of {plain(', '.join(splits))}: {said}"
    for one in shared:
        levels = ", ".join(f"{_whole(one[level]):,} with {said}" for level, said in _LEVELS.items() if one.get(level))
        where = f"{one.get('training')} in {one.get('evaluation')}"
        yield f"  - of {_whole(one.get('training_rows')):,} rows of {plain(where)}: {levels}"
    for note in told.get("notes") or [] if isinstance(told.get("notes"), list) else []:
        yield f"  - {plain(note)}" if found else f"- contamination: {plain(note)}"


def _parity(tasks: Mapping[str, TrainedTask]) -> Iterator[str]:
    compared = {task: part.parity_rows for task, part in tasks.items() if part.parity_rows}
    if compared:
        rows = ", ".join(f"{n:,} rows of {plain(task)}" for task, n in compared.items())
        yield f"- parity: the tokens that training saw are those that evaluation sends, compared on {rows}"


def hardware_words(hardware: Mapping[str, Any] | None) -> str | None:
    """A machine in words, as `AMD EPYC, 2 cores, 25.3 GB, no GPU`; None if its record says nothing."""
    if not hardware:
        return None
    ram = hardware.get("ram_bytes")
    parts = [
        str(hardware.get("cpu") or ""),
        f"{hardware['cores']} cores" if hardware.get("cores") else "",
        f"{size(ram)} of memory" if isinstance(ram, int) and not isinstance(ram, bool) and 0 < ram < 10**18 else "",
        f"GPU {hardware['gpu']}" if hardware.get("gpu") else "no GPU",
    ]
    return ", ".join(part for part in parts if part)


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15 else 0


def _amount(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
