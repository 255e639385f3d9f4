"""The leaderboard as a page that opens from a disk: a small index that is readable by itself, and files that it loads
when somebody wants to see more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from slmbench.leaderboard._measures_forms import measure_views
from slmbench.leaderboard._page_data import mean_about, page_data
from slmbench.leaderboard._page_files import Put, put_data, shown_json
from slmbench.leaderboard._page_items import PagedItems, paged_items, samples_of_a_run
from slmbench.leaderboard._page_routing import choices_among, routing_views
from slmbench.leaderboard._page_rows import row_file
from slmbench.leaderboard._published_forms import ABOUT, beside_views
from slmbench.leaderboard._records import ScoredRun
from slmbench.leaderboard._samples import withheld
from slmbench.leaderboard.pages import bundle, render
from slmbench.leaderboard.side_by_side import answered_prompts
from slmbench.leaderboard.table import BEST, FORCED_BASE, MIXED_WEIGHTS, NOT_TOLD_APART, Leaderboard, LeaderboardCell
from slmbench.leaderboard.texts import interval_text, number, rank_range
from slmbench.values import Estimate

STYLES = ("app/base.css", "app/table.css", "app/views.css")
# The plain table is for those who have no script: past so many cells it says where the rest is.
PLAIN_CELLS = 2200
PLAIN_NOTICES = 30
FEW = 10
SIGNS = {BEST: "\u25c6", NOT_TOLD_APART: "\u25c7"}


def render_page(
    leaderboard: Leaderboard,
    runs: Sequence[ScoredRun],
    out: Path | None = None,
    *,
    no_texts: bool = False,
    put: Put | None = None,
) -> str:
    """index.html. runs: those that the leaderboard was built from (samples of them are read here).

    put: takes each data file (its name in `data/`, its content) as it is made; None drops them. out: the folder that
    the page is for, which its links to the runs' files start from; None: `leaderboard/` beside `runs/`. Every text of a
    run is a text node, here and in what is loaded. The content security policy allows one style and one script, by
    their hashes, and the data files that this script loads. no_texts: the texts and ids of items stay out of all of
    it, keyed digests stand in; so they do of runs that were made so.
    """
    put = put or (lambda name, content: None)
    shown = {one for row in leaderboard.rows for cell in row.cells.values() for one in cell.run_ids}
    by_id = {run.run_id: withheld(run) if no_texts or run.no_texts else run for run in runs if run.run_id in shown}
    items = _items(leaderboard, by_id, put)
    rows = [row_file(leaderboard, row, by_id, items, out, put) for row in leaderboard.rows]
    places = [
        (one, place) for place, row in enumerate(leaderboard.rows) for c in row.cells.values() for one in c.run_ids
    ]
    run_file = put_data(put, "runs", list(dict.fromkeys(places)))
    badges = {badge for row in leaderboard.rows for badge in row.badges}
    said = [text for notice in leaderboard.notices for text in (notice.text, *notice.details[:FEW])]
    return render(
        "leaderboard.html.j2",
        title="slmbench leaderboard" + ("" if leaderboard.suite is None else f": {leaderboard.suite}"),
        styles=STYLES,
        script=bundle(),
        loads=True,
        suite=leaderboard.suite,
        lede=_lede(leaderboard, by_id),
        notices=said[:PLAIN_NOTICES],
        more_notices=max(0, len(said) - PLAIN_NOTICES),
        data=shown_json(page_data(leaderboard, by_id, items, rows, run_file, _about(by_id))),
        rows=leaderboard.rows,
        plain=_plain(leaderboard),
        columns=leaderboard.columns,
        badges={"limit" if badge.startswith("limit ") else badge for badge in badges},
        names={"mixed_weights": MIXED_WEIGHTS, "forced_base": FORCED_BASE},
        prompts=answered_prompts(
            leaderboard,
            {run_id: run.folder for run_id, run in by_id.items()},
            [run_id for run_id, run in by_id.items() if run.no_texts],
        ),
        routers=routing_views(run for run in runs if run.run_id in shown),
        choices=choices_among(by_id.values()),
        measures=measure_views(leaderboard.measures) if leaderboard.measures else None,
        published=beside_views(leaderboard.published),
        published_about=ABOUT,
        mean_about=mean_about(leaderboard) if leaderboard.averages else None,
    )


def _items(leaderboard: Leaderboard, runs: Mapping[str, ScoredRun], put: Put) -> dict[str, PagedItems]:
    """Condition's key -> its items, in the order of the columns."""
    most = samples_of_a_run(list(runs.values()))
    of: dict[str, dict[str, ScoredRun]] = {}
    primary: dict[str, str] = {}
    for column in leaderboard.columns:
        key = column.condition.key
        if column.primary or key not in primary:
            primary[key] = column.metric
        for row in leaderboard.rows:
            if (cell := row.cells.get(column.key)) is not None:
                of.setdefault(key, {}).update((one, runs[one]) for one in cell.run_ids if one in runs)
    return {key: paged_items(list(found.values()), primary[key], most, put) for key, found in of.items()}


def _plain(leaderboard: Leaderboard) -> tuple[list[str], list[tuple[str, list[str]]], int]:
    """(heads, rows of texts, how many rows are left out) of the table that is read without a script."""
    columns = [column for column in leaderboard.columns if column.primary] or list(leaderboard.columns)
    most = max(1, PLAIN_CELLS // (len(columns) + 1 + leaderboard.averages))
    heads = [f"{column.task_label}: {column.metric_label}" for column in columns]
    rows = []
    for row in leaderboard.rows[:most]:
        texts = [_plain_cell(row.cells.get(column.key)) for column in columns]
        if leaderboard.averages:
            texts.insert(0, _plain_text(row.aggregate, row.mean_rank_low, row.mean_rank_high, row.mean_claim))
        badges = f" ({', '.join(row.badges)})" if row.badges else ""
        rows.append((row.name + badges, texts))
    return (["Mean", *heads] if leaderboard.averages else heads), rows, max(0, len(leaderboard.rows) - most)


def _plain_cell(cell: LeaderboardCell | None) -> str:
    return "" if cell is None else _plain_text(cell.estimate, cell.rank_low, cell.rank_high, cell.claim)


def _plain_text(made: Estimate | None, low: int | None, high: int | None, claim: str | None) -> str:
    """`\u25c6 0.625 (0.470\u20130.758) rank 1`. low, high: of the ranks."""
    if made is None:
        return ""
    parts = [SIGNS[claim]] if claim is not None else []
    parts.append(number(made.value))
    if made.method != "none":
        parts.append(f"({interval_text(made.ci_low, made.ci_high)})")
    if low is not None and high is not None:
        parts.append(f"rank\u00a0{rank_range(low, high)}")
    return " ".join(parts)


def _lede(leaderboard: Leaderboard, runs: Mapping[str, ScoredRun]) -> str:
    parts = [
        _plural(len(leaderboard.rows), "model"),
        _plural(len({column.task for column in leaderboard.columns}), "task"),
        _plural(len(runs), "run"),
    ]
    newest = max((run.created for run in runs.values()), default=None)
    if newest is not None:
        parts.append(f"newest from {newest:%Y-%m-%d %H:%M} {newest.tzname()}")
    return ", ".join(parts) + "."


def _plural(amount: int, noun: str) -> str:
    return f"{amount:,} {noun}" if amount == 1 else f"{amount:,} {noun}s"


def _about(runs: Mapping[str, ScoredRun]) -> str:
    """What the samples show, and of which runs texts are kept out."""
    kept = sum(run.no_texts for run in runs.values())
    if not kept:
        return "Every run that is shown, and where its files are. Scores lead to what was asked and what came back."
    which = "all runs" if kept == len(runs) else f"{kept} of {len(runs)} runs"
    return (
        f"Prompts, outputs, targets and ids of items of {which} are kept out of this page (--no-texts): a keyed digest "
        "stands in place of each, and only the runs' own folders have the texts."
    )
