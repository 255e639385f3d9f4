"""The leaderboard as one HTML file that needs nothing else: no network, no script to read it, nothing that can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from slmbench.leaderboard._html import Html, json_script, notice_box, page_head, tag
from slmbench.leaderboard._page_latency import latency_table
from slmbench.leaderboard._page_samples import run_sections
from slmbench.leaderboard._page_side_by_side import side_by_side
from slmbench.leaderboard._page_table import cost_table, score_table
from slmbench.leaderboard._page_training import training_section
from slmbench.leaderboard._records import Run
from slmbench.leaderboard._samples import withheld
from slmbench.leaderboard._text import number
from slmbench.leaderboard.table import FORCED_BASE, MIXED_WEIGHTS, NOT_COMPARABLE, Leaderboard


def render_page(
    leaderboard: Leaderboard, runs: Sequence[Run], out: Path | None = None, *, no_texts: bool = False
) -> str:
    """The whole page. runs: those that the leaderboard was built from (some of their samples are read here).

    out: the folder that the page is for, which its links to the runs' files start from; None: `leaderboard/` beside
    `runs/`. Every text of a run is a text node. The content security policy allows one style and one script, by their
    hashes, and nothing else: no address is loaded, no handler in markup runs. The numbers are in `#data` too, as
    leaderboard.json has them. no_texts: the texts and ids of items stay out, keyed digests stand in; so they do of
    runs that were made so.
    """
    shown = {cell.run_id for row in leaderboard.rows for cell in row.cells.values()}
    by_id = {run.run_id: withheld(run) if no_texts or run.no_texts else run for run in runs if run.run_id in shown}
    anchors = {run_id: f"run-{position}" for position, run_id in enumerate(by_id, 1)}
    style, script = _asset("page.css"), _asset("page.js")
    title = "slmbench leaderboard" + ("" if leaderboard.suite is None else f": {leaderboard.suite}")
    head = page_head(title, style, script)
    body = [_header(leaderboard, by_id)]
    if leaderboard.notices:
        body.append(notice_box(leaderboard.notices))
    if leaderboard.rows:
        body.append(score_table(leaderboard, anchors))
        body.append(_legend(leaderboard))
        waits = latency_table(leaderboard, by_id)
        body.append(tag("section", tag("h2", "Cost"), cost_table(leaderboard), *([waits] if waits is not None else [])))
        body.append(_columns(leaderboard))
        beside = side_by_side(leaderboard, by_id)
        body += [beside] if beside is not None else []
        trained = training_section(leaderboard, by_id)
        body += [trained] if trained is not None else []
        sections = run_sections(leaderboard, by_id, anchors, out)
        about = tag("p", _about(by_id), class_="lede")
        body.append(tag("section", tag("h2", "Runs and samples"), about, sections, id="runs"))
    else:
        body.append(tag("p", "No finished runs."))
    body.append(json_script("data", leaderboard.as_json()))
    body.append(tag("script", Html(script)))
    page = tag("html", head, tag("body", tag("main", *body)), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


@cache
def _asset(name: str) -> str:
    content = files("slmbench.leaderboard").joinpath(name).read_text(encoding="utf-8")
    # A checkout may have turned line ends; the browser turns them back before it takes the hash.
    return content.replace("\r\n", "\n")


def _header(leaderboard: Leaderboard, runs: dict[str, Run]) -> Html:
    title = [tag("span", "Leaderboard")]
    if leaderboard.suite is not None:
        title.append(tag("span", leaderboard.suite, class_="suite"))
    parts = [
        _plural(len(leaderboard.rows), "model"),
        _plural(len({column.task for column in leaderboard.columns}), "task"),
        _plural(len(runs), "run"),
    ]
    newest = max((run.created for run in runs.values()), default=None)
    if newest is not None:
        parts.append(f"newest from {newest:%Y-%m-%d %H:%M} {newest.tzname()}")
    forms = (("JSON", "json"), ("CSV", "csv"), ("Markdown", "md"))
    links = [tag("a", name, href=f"leaderboard.{end}") for name, end in forms]
    return tag(
        "header",
        tag("p", "slmbench", class_="brand"),
        tag("h1", *title),
        tag("p", ", ".join(parts), ".", class_="lede"),
        tag("nav", tag("span", "This table as"), *links, aria_label="Other forms of this table"),
    )


def _plural(amount: int, noun: str) -> str:
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def _legend(leaderboard: Leaderboard) -> Html:
    """What the table's signs mean; only those that are in it."""
    badges = {badge for row in leaderboard.rows for badge in row.badges}
    told = [
        (
            "Score and bar",
            "The mean over n test items. The line through the dot, and the numbers below it, are the 95% interval: "
            "where the score could lie if other items of the same kind had been drawn.",
        ),
        (
            "Rank range",
            "#1\u20133 means that the data leaves ranks 1 to 3 open. Models are compared on the same items, pair by "
            "pair, and corrected for the number of pairs (Holm, 5%). Green: no other model is significantly better.",
        ),
        (
            "Order",
            "Rows that lead in most columns come first. There is no average over tasks: it would change with the "
            "models that happen to be in the table.",
        ),
        (
            "Cost",
            "Seconds and tokens are summed over the row\u2019s runs, memory is their peak; seconds compare only "
            "on the same machine. The percentage is the adapter\u2019s parameters against the model\u2019s: where that "
            "is large (amber), the gain is not that of a small add-on.",
        ),
    ]
    if any(column.chance is not None for column in leaderboard.columns):
        told.append(("Chance", "The upright tick in a bar: what guessing scores. A model below it is shown below it."))
    if any(column.in_process for column in leaderboard.columns):
        told.append(
            (
                "in process",
                "The task\u2019s tests ran in the process of the program that they judge. A program that sets out to "
                "cheat them can; elsewhere tests run in a process of their own.",
            )
        )
    if any(badge.startswith("limit ") for badge in badges):
        told.append(("limit N", "Only the first N items were run. A score to look at, not to rank."))
    if "samples" in badges:
        told.append(("samples", "Run on the few rows that come with the task, not on its test set. Never ranked."))
    if "twin" in badges:
        told.append(("twin", "A small random copy of a model, which shows that everything runs. Never ranked."))
    if NOT_COMPARABLE in badges:
        told.append(
            (NOT_COMPARABLE, "Other items, prompt, generation or scorer than the ranked runs of that task. Not ranked.")
        )
    if MIXED_WEIGHTS in badges:
        told.append((MIXED_WEIGHTS, "The row\u2019s runs share a name, but not the same weights."))
    if FORCED_BASE in badges:
        told.append((FORCED_BASE, "The adapter was made on another model than the one that it is on here."))
    pairs = [tag("div", tag("dt", term), tag("dd", words)) for term, words in told]
    return tag("section", tag("h2", "How to read this"), tag("dl", *pairs, class_="legend"))


def _columns(leaderboard: Leaderboard) -> Html:
    """What each column can and can't tell apart."""
    heads = ("Task", "Metric", "Better", "Chance", "Models ranked", "Smallest difference it can show")
    rows = []
    for column in leaderboard.columns:
        smallest = "\u2014" if column.detectable is None else f"about {number(column.detectable)}"
        cells = (
            column.metric,
            "higher" if column.higher_is_better else "lower",
            "\u2014" if column.chance is None else number(column.chance),
            str(column.ranked),
            smallest,
        )
        rows.append(tag("tr", tag("th", column.task, scope="row"), *(tag("td", cell) for cell in cells)))
    caption = tag(
        "caption",
        "The smallest difference is what one paired comparison finds four times out of five; most smaller ones stay "
        "hidden.",
    )
    table = tag(
        "table",
        caption,
        tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
        tag("tbody", *rows),
        class_="plain",
    )
    return tag(
        "section",
        tag("h2", "What each column can show"),
        tag("div", table, class_="scroll", role="region", aria_label="Columns", tabindex=0),
    )


def _about(runs: Mapping[str, Run]) -> str:
    """What the samples show, and of which runs texts are kept out."""
    kept = sum(run.no_texts for run in runs.values())
    if not kept:
        return "Every score, down to what the model was asked and what it wrote."
    which = "all runs" if kept == len(runs) else f"{kept} of {len(runs)} runs"
    return (
        f"Prompts, outputs, targets and ids of items of {which} are kept out of this page (--no-texts): a keyed digest "
        "of each stands in its place, and the texts are in the runs' own folders alone."
    )
