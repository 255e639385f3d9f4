"""The leaderboard as one HTML file that needs nothing else: no network, no script to read it, nothing that can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from slmbench.leaderboard._page_latency import latencies
from slmbench.leaderboard._page_routing import choices_among, routing_views
from slmbench.leaderboard._page_samples import run_sections
from slmbench.leaderboard._page_side_by_side import side_by_side
from slmbench.leaderboard._page_table import adapter_share, column_views, is_large
from slmbench.leaderboard._page_training import trainings
from slmbench.leaderboard._records import ScoredRun
from slmbench.leaderboard._samples import withheld
from slmbench.leaderboard.pages import render
from slmbench.leaderboard.table import FORCED_BASE, MIXED_WEIGHTS, Leaderboard
from slmbench.leaderboard.texts import interval_text


def render_page(
    leaderboard: Leaderboard, runs: Sequence[ScoredRun], out: Path | None = None, *, no_texts: bool = False
) -> str:
    """The whole page. runs: those that the leaderboard was built from (some of their samples are read here).

    out: the folder that the page is for, which its links to the runs' files start from; None: `leaderboard/` beside
    `runs/`. Every text of a run is a text node. The content security policy allows one style and one script, by their
    hashes, and nothing else: no address is loaded, no handler in markup runs. The numbers are in `#data` too, as
    leaderboard.json has them. no_texts: the texts and ids of items stay out, keyed digests stand in; so they do of
    runs that were made so.
    """
    shown = {one for row in leaderboard.rows for cell in row.cells.values() for one in cell.run_ids}
    by_id = {run.run_id: withheld(run) if no_texts or run.no_texts else run for run in runs if run.run_id in shown}
    badges = {badge for row in leaderboard.rows for badge in row.badges}
    anchors = {run_id: f"run-{position}" for position, run_id in enumerate(by_id, 1)}
    return render(
        "leaderboard.html.j2",
        title="slmbench leaderboard" + ("" if leaderboard.suite is None else f": {leaderboard.suite}"),
        styles=("page.css",),
        script="page.js",
        suite=leaderboard.suite,
        lede=_lede(leaderboard, by_id),
        notices=[text for notice in leaderboard.notices for text in (notice.text, *notice.details)],
        data=leaderboard.as_json(),
        rows=leaderboard.rows,
        tasks=[
            (task, len(list(group))) for task, group in groupby(leaderboard.columns, lambda column: column.task_label)
        ],
        columns=column_views(leaderboard),
        anchors=anchors,
        badges={"limit" if badge.startswith("limit ") else badge for badge in badges},
        names={"mixed_weights": MIXED_WEIGHTS, "forced_base": FORCED_BASE},
        latencies=latencies(leaderboard, by_id),
        beside=side_by_side(leaderboard, by_id),
        trainings=trainings(leaderboard, by_id),
        routers=routing_views(run for run in runs if run.run_id in shown),
        choices=choices_among(by_id.values()),
        about=_about(by_id),
        sections=run_sections(leaderboard, by_id, anchors, out),
        adapter_share=adapter_share,
        is_large=is_large,
        interval_text=interval_text,
    )


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
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def _about(runs: Mapping[str, ScoredRun]) -> str:
    """What the samples show, and of which runs texts are kept out."""
    kept = sum(run.no_texts for run in runs.values())
    if not kept:
        return "Every score, down to what the model was asked and what it wrote."
    which = "all runs" if kept == len(runs) else f"{kept} of {len(runs)} runs"
    return (
        f"Prompts, outputs, targets and ids of items of {which} are kept out of this page (--no-texts): a keyed digest "
        "stands in place of each, and only the runs' own folders have the texts."
    )
