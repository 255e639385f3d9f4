"""The table of measures as people read it, and as text for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from slmbench.console.columns import Cell, column_blocks, fit, table_lines, widths_of, wrapped
from slmbench.leaderboard._published_forms import Painted
from slmbench.leaderboard.table import MeasureLine, Waiting
from slmbench.leaderboard.texts import duration, interval, number, size
from slmbench.values import Estimate, JsonObject
from slmbench.visible import visible

TITLE = "measures"
HEADS = (
    "latency",
    "ROUGE-L",
    "BERTScore",
    "tokens an answer",
    "tokens a record",
    "against JSON",
    "against plain",
    "peak memory",
    "adapter",
)
NOTHING = "\u2013"
NO_LATENCY = "latency: not measured; run with --latency"
ABOUT = (
    "Latency: the median of items one after another, each alone, with its 95% interval of 6 items or more, and "
    "the mean. Tokens a record: prompt and answer in this format, without worked examples, in the model's own "
    "tokenizer, of the task's first 20 rows at most; beside it how much more or less that is than the same as compact "
    "JSON and as plain text. Over all tasks each counts the same; memory is the "
    "largest. What some of the tasks lack has no number over all of them, but says of how many tasks it is."
)
# The columns that each block of a terminal's table repeats.
_KEPT = 2
_LONGEST = 44
_MOST = 6


def measure_texts(lines: Sequence[MeasureLine]) -> list[tuple[str, str, tuple[str, ...]]]:
    """(whose, which task, the texts under HEADS) of each line."""
    return [(_whose(line), _task(line), _texts(line)) for line in lines]


def measure_remarks(lines: Sequence[MeasureLine]) -> list[str]:
    """Why what isn't in the table is not there, a sentence a line."""
    said = []
    own = [line for line in lines if line.task]
    if without := [line for line in own if line.waiting is None]:
        said.append(NO_LATENCY + _which(without, own))
    if other := {line.task: line.other[0] for line in own if line.other is not None}:
        of = ", ".join(f"{task} by {metric}" for task, metric in other.items())
        said.append(f"ROUGE-L: not of every task; in its column is {of}, which the line over all tasks leaves out")
    written = [line for line in own if line.other is None]
    if unscored := [line for line in written if line.bert is None]:
        said.append(f"BERTScore: not scored{_which(unscored, written)}; needs a model, which SLMBENCH_BERTSCORE names")
    for why in dict.fromkeys(line.why_no_economy for line in own if line.why_no_economy):
        of = _which([line for line in own if line.why_no_economy == why], own)
        said.append(f"tokens a record: {why}{of}")
    return said


def _which(lines: Sequence[MeasureLine], every: Sequence[MeasureLine]) -> str:
    """Which of the lines, in brackets; a task alone if it is so of all its rows; '' of all lines."""
    if len(lines) == len(every):
        return ""
    names = []
    for line in lines:
        alone = sum(one.task == line.task for one in lines) == sum(one.task == line.task for one in every)
        names.append(line.task if alone else f"{line.row} on {line.task}")
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f" ({', '.join(names[:_MOST])}{more})"


def measure_views(lines: Sequence[MeasureLine]) -> JsonObject:
    """What measures.html.j2 draws."""
    return {
        "about": ABOUT,
        "heads": [head[:1].upper() + head[1:] for head in HEADS],
        "rows": [
            {"whose": whose, "task": task, "over": not line.task, "badges": line.badges, "texts": texts}
            for line, (whose, task, texts) in zip(lines, measure_texts(lines), strict=True)
        ],
        "remarks": measure_remarks(lines),
    }


def measure_lines(lines: Sequence[MeasureLine], width: int, painted: Painted) -> list[str]:
    """Lines for a terminal, in as many blocks of columns as its width needs; none if there is nothing."""
    if not lines:
        return []
    heads = ["", "task", *HEADS]
    rows = [
        [Cell(fit(visible(whose), _LONGEST).rstrip()), Cell(task), *map(Cell, texts)]
        for whose, task, texts in measure_texts(lines)
    ]
    there = [at for at in range(len(heads)) if at < _KEPT or any(row[at].text != NOTHING for row in rows)]
    heads, rows = [heads[at] for at in there], [[row[at] for at in there] for row in rows]
    made = ["", painted(TITLE, "bold")]
    for number_of_block, block in enumerate(column_blocks(widths_of(heads, rows), width, kept=_KEPT)):
        shown = [heads[at] for at in block]
        table = table_lines(shown, [[row[at] for at in block] for row in rows], right=shown[_KEPT:])
        # Its head is bold already; whether that is wanted is the caller's to say.
        first, *others = (line.removeprefix("\x1b[1m").removesuffix("\x1b[0m").rstrip() for line in table)
        made += [*([""] if number_of_block else []), painted(first, "bold"), *others]
    for remark in measure_remarks(lines):
        made += [painted(line, "dim") for line in wrapped(visible(remark), width)]
    return made


def measure_markdown(lines: Sequence[MeasureLine], text: Callable[[str], str]) -> list[str]:
    """The section's lines; none if there is nothing. text: makes a text plain in Markdown."""
    if not lines:
        return []
    made = [f"## {TITLE.capitalize()}", "", ABOUT, "", f"| model | task | {' | '.join(HEADS)} |"]
    made.append(f"| --- | --- |{' ---: |' * len(HEADS)}")
    for whose, task, texts in measure_texts(lines):
        made.append(f"| {' | '.join(map(text, (whose, task, *texts)))} |")
    made.append("")
    made += [f"- {text(remark)}" for remark in measure_remarks(lines)]
    return [*made, ""]


def _whose(line: MeasureLine) -> str:
    told = ", ".join(part for part in (line.format, *line.badges) if part)
    return f"{line.row} ({told})" if told else line.row


def _task(line: MeasureLine) -> str:
    if not line.task:
        return f"all {line.tasks} tasks" if line.tasks == line.tasks_of else f"{line.tasks} of {line.tasks_of} tasks"
    return f"{line.task} ({line.condition})" if line.condition and line.condition != line.format else line.task


def _texts(line: MeasureLine) -> tuple[str, ...]:
    economy, partly = line.economy, {one.measure: f"{one.tasks} of {one.of} tasks" for one in line.partly}
    without = {name: partly.get(name, NOTHING) for name in ("answer_tokens", "economy", "memory")}
    return (
        partly.get("latency") or _wait(line.waiting),
        partly.get("rouge_l") or (_score(line.rouge) if line.other is None else _named_score(*line.other)),
        partly.get("bertscore") or _score(line.bert),
        without["answer_tokens"] if line.answer_tokens is None else f"{line.answer_tokens:.1f}",
        without["economy"] if economy is None else f"{economy.tokens:.1f}",
        without["economy"] if economy is None else _signed(economy.against_json),
        without["economy"] if economy is None else _signed(economy.against_plain),
        without["memory"] if line.memory_bytes is None else f"{size(line.memory_bytes)} ({line.memory_of})",
        NOTHING if line.adapter_bytes is None else size(line.adapter_bytes),
    )


def _wait(made: Waiting | None) -> str:
    if made is None:
        return NOTHING
    seconds = made.median >= 950

    def form(ms: float) -> str:
        return duration(ms / 1000) if seconds else f"{ms:.0f} ms" if ms >= 9.5 else f"{ms:.1f} ms"

    ends = "" if made.low is None or made.high is None else f" [{form(made.low)}, {form(made.high)}]"
    return f"{form(made.median)}{ends}, mean {form(made.mean)}"


def _score(made: Estimate | None) -> str:
    return NOTHING if made is None else number(made.value) + interval(made.ci_low, made.ci_high, made.method)


def _named_score(metric: str, made: Estimate) -> str:
    return f"{_score(made)} ({metric})"


def _signed(share: float) -> str:
    return "0%" if abs(share) < 0.005 else f"{share:+.0%}".replace("-", "\u2212")
