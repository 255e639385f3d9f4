"""The leaderboard's files: JSON, CSV, Markdown and the page, all of them or none."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from slmbench.console import say
from slmbench.errors import SlmbenchError
from slmbench.files import unbroken
from slmbench.leaderboard._measures_forms import measure_markdown
from slmbench.leaderboard._page_files import DataFolder
from slmbench.leaderboard._published_forms import beside_markdown
from slmbench.leaderboard._records import ScoredRun
from slmbench.leaderboard.page import render_page
from slmbench.leaderboard.spreadsheets import render_csv, render_notices
from slmbench.leaderboard.table import BEST, NOT_TOLD_APART, Leaderboard, LeaderboardColumn, LeaderboardRow
from slmbench.leaderboard.texts import count, duration, interval, number, rank_range, size
from slmbench.paths import shown
from slmbench.values import Estimate
from slmbench.visible import visible

_MARKS = {BEST: "**", NOT_TOLD_APART: "*"}
# Of the cases that a notice stands for.
DETAILS_SHOWN = 10
_MEAN = "0 is guessing (or the worst score), 1 the best score, every task counts the same."
_MARKDOWN = re.compile(r"([\\`*\[\]<>&|~#!])")


def write_leaderboard(
    leaderboard: Leaderboard, runs: Sequence[ScoredRun], out: Path, *, no_texts: bool = False
) -> list[Path]:
    """Writes leaderboard.json, leaderboard.csv, notices.csv, leaderboard.md and index.html; returns their paths.

    Beside index.html is `data/`, which it loads from. runs: those that the leaderboard was built from; the page shows
    samples of them and links to their folders. no_texts: digests of texts in place of them. Every file is written
    beside its place and then renamed, after all of them have been: an error (a full disk) leaves what was there before,
    and no temporary file. Data files of earlier pages go once the new index is there. Raises SlmbenchError if out can't
    be written.
    """
    done = False
    contents = {
        "leaderboard.json": json.dumps(leaderboard.as_json(), indent=2, allow_nan=False) + "\n",
        "leaderboard.csv": render_csv(leaderboard),
        "notices.csv": render_notices(leaderboard),
        "leaderboard.md": render_markdown(leaderboard),
    }
    temporary = {out / name: out / f".{name}.{os.getpid()}.tmp" for name in (*contents, "index.html")}
    try:
        out.mkdir(parents=True, exist_ok=True)
        with DataFolder(out) as data:
            contents["index.html"] = render_page(leaderboard, runs, out, no_texts=no_texts, put=data.put)
            for path, beside in temporary.items():
                with beside.open("w", encoding="utf-8", newline="\n") as file:
                    file.write(contents[path.name])
                    file.flush()
                    os.fsync(file.fileno())
            with unbroken():
                for path, beside in temporary.items():
                    beside.replace(path)
                done = True
                data.settle()
    except KeyboardInterrupt:
        say(
            f"{shown(out)}: its leaderboard was being written; "
            + ("it is whole" if done else "its files are unchanged")
        )
        raise
    except OSError as error:
        raise SlmbenchError(f"{out}: the leaderboard can't be written ({error.strerror or error})") from error
    finally:
        for beside in temporary.values():
            with suppress(OSError):
                beside.unlink()
    return list(temporary)


def render_markdown(leaderboard: Leaderboard) -> str:
    """The table, its cost and its notices as GitHub-flavoured Markdown."""
    title = "Leaderboard" if leaderboard.suite is None else f"Leaderboard: {markdown_text(leaderboard.suite)}"
    lines = [f"# {title}", ""]
    if not leaderboard.rows:
        lines += ["No finished runs.", ""]
    else:
        heads = [_markdown_head(column) for column in leaderboard.columns]
        scores = [[_markdown_score(row, column) for column in leaderboard.columns] for row in leaderboard.rows]
        names = [_markdown_name(row) for row in leaderboard.rows]
        if leaderboard.averages:
            heads.insert(0, "mean")
            for row, line in zip(leaderboard.rows, scores, strict=True):
                line.insert(0, _markdown_mean(row))
        lines += _markdown_table(["model", *heads], [[name, *line] for name, line in zip(names, scores, strict=True)])
        lines += ["", *_markdown_legend(leaderboard), ""]
        lines += [*_markdown_costs(leaderboard), ""]
    lines += measure_markdown(leaderboard.measures, markdown_text)
    lines += beside_markdown(leaderboard.published, markdown_text)
    if leaderboard.notices:
        lines += ["Notices:", ""]
        for notice in leaderboard.notices:
            lines.append(f"- {markdown_text(notice.text)}")
            lines += [f"  - {markdown_text(detail)}" for detail in notice.details[:DETAILS_SHOWN]]
            if len(notice.details) > DETAILS_SHOWN:
                lines.append(f"  - and {len(notice.details) - DETAILS_SHOWN} more, in leaderboard.json")
        lines.append("")
    return "\n".join(lines)


def _markdown_legend(leaderboard: Leaderboard) -> list[str]:
    said = [
        "Each score is a mean, its 95% interval, then the ranks that the data leaves open (paired tests on the same "
        "items, Holm-corrected, 5%). **Bold**: the best of its column by these tests, and better than chance; "
        "*italic*: not told apart from the best."
    ]
    if leaderboard.aggregate is not None and leaderboard.averages:
        over = f"Rows are in the order of their {leaderboard.aggregate.name} over {leaderboard.averaged}: {_MEAN}"
        said += ["", over]
        said[-1] += f" Of these columns: {', '.join(map(markdown_text, leaderboard.aggregate.columns))}."
    if leaderboard.cost_tasks:
        tasks_ = ", ".join(map(markdown_text, leaderboard.cost_tasks))
        said += ["", f"Seconds and tokens are summed over what all rows have: {tasks_}."]
    return said


def markdown_text(text: str) -> str:
    """text that is plain in Markdown: no markup, no HTML, no table cell ends, controls made visible."""
    return _MARKDOWN.sub(r"\\\1", visible(text))


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *("---:" for _ in head[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def _markdown_head(column: LeaderboardColumn) -> str:
    direction = "" if column.higher_is_better else " (lower is better)"
    weaker = " (in process)" if column.in_process else ""
    return f"{markdown_text(column.task_label)}<br>{markdown_text(column.metric_label)}{direction}{weaker}"


def _markdown_name(row: LeaderboardRow) -> str:
    badges = "".join(f" ({markdown_text(badge)})" for badge in row.badges)
    return markdown_text(row.name) + badges


def _markdown_score(row: LeaderboardRow, column: LeaderboardColumn) -> str:
    cell = row.cells.get(column.key)
    if cell is None:
        return ""
    shown = _markdown_estimate(cell.estimate, _MARKS.get(cell.claim or "", ""))
    seeds = f", {len(cell.seeds)} seeds" if cell.seeds else ""
    if cell.rank_low is None or cell.rank_high is None:
        return f"{shown} (not ranked{seeds})"
    return f"{shown} ({rank_range(cell.rank_low, cell.rank_high)}{seeds})"


def _markdown_mean(row: LeaderboardRow) -> str:
    if row.aggregate is None:
        return ""
    shown = _markdown_estimate(row.aggregate, _MARKS.get(row.mean_claim or "", ""))
    if row.mean_rank_low is None or row.mean_rank_high is None:
        return shown
    return f"{shown} ({rank_range(row.mean_rank_low, row.mean_rank_high)})"


def _markdown_estimate(made: Estimate, marks: str = "") -> str:
    return f"{marks}{number(made.value)}{marks}{interval(made.ci_low, made.ci_high, made.method)}"


def _markdown_costs(leaderboard: Leaderboard) -> list[str]:
    """The table of costs, without the columns that are empty; what all rows have alike is said in a line above it."""
    heads = ["parameters", "adapter", "training", "evaluation", "peak memory", "tokens in", "tokens out"]
    rows = [_markdown_cost(row) for row in leaderboard.rows]
    columns = dict(zip(heads, zip(*(row[1:] for row in rows), strict=True), strict=True))
    alike = {head: texts[0] for head, texts in columns.items() if len(rows) > 1 and len(set(texts)) == 1}
    told = [f"{head}: {text}" for head, text in alike.items() if text]
    kept = [place for place, head in enumerate(heads, 1) if head not in alike and any(columns[head])]
    lines = [f"All rows alike: {'; '.join(told)}.", ""] if told else []
    table = [[row[0], *(row[place] for place in kept)] for row in rows]
    return lines + (_markdown_table(["model", *(heads[place - 1] for place in kept)], table) if kept else [])


def _markdown_cost(row: LeaderboardRow) -> list[str]:
    cost = row.cost

    def shown(name: str, form: Callable[[float], str]) -> str:
        value = cost[name]
        return "" if value is None else form(value)

    adapter = shown("adapter_parameters", count)
    if adapter and cost["parameters"] and cost["adapter_parameters"]:
        share = cost["adapter_parameters"] / cost["parameters"]
        adapter += f" ({share:.0%} of the model), {shown('adapter_bytes', size)}"
    adapter = ", ".join(part for part in (adapter, markdown_text(row.method or "")) if part)
    return [
        markdown_text(row.name),
        shown("parameters", count),
        adapter,
        shown("train_s", duration),
        shown("seconds", duration),
        shown("ram_peak_B", size),
        shown("tokens_in", count),
        shown("tokens_out", count),
    ]
