"""What a page has of each row in a file of its own: item scores, and what its runs were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from slmbench.leaderboard._page_facts import run_facts, run_link
from slmbench.leaderboard._page_files import Put, put_data
from slmbench.leaderboard._page_items import PagedItems
from slmbench.leaderboard._page_latency import latencies
from slmbench.leaderboard._page_training import training
from slmbench.leaderboard._records import ScoredRun
from slmbench.leaderboard.table import Leaderboard, LeaderboardColumn, LeaderboardRow
from slmbench.runs import RECORD, SAMPLES
from slmbench.values import JsonObject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def row_file(
    leaderboard: Leaderboard,
    row: LeaderboardRow,
    runs: Mapping[str, ScoredRun],
    items: Mapping[str, PagedItems],
    out: Path | None,
    put: Put,
) -> str:
    """The name of the data file of a row. items: condition's key -> its items. out: the page's folder, for links."""
    places = {key: place for place, key in enumerate(items)}
    condition_of = {one: column.condition.key for column, one in _shown(leaderboard, row)}
    of_row = [runs[one] for one in condition_of if one in runs]
    scores = []
    for position, column in enumerate(leaderboard.columns):
        cell = row.cells.get(column.key)
        found = [runs[one] for one in cell.run_ids if one in runs] if cell is not None else []
        found = [run for run in found if column.metric in run.items.scores]
        if found:
            order = items[column.condition.key].order
            scores.append([position, [packed_scores(_in_order(run, column.metric, order)) for run in found]])
    content = {
        "runs": [_run(run, places[condition_of[run.run_id]], items, condition_of, out) for run in of_row],
        "scores": scores,
        "latency": latencies(of_row),
        "training": training(of_row),
    }
    return put_data(put, "row", content)


def _shown(leaderboard: Leaderboard, row: LeaderboardRow) -> Iterator[tuple[LeaderboardColumn, str]]:
    """(column, run id) of what the row shows."""
    for column in leaderboard.columns:
        cell = row.cells.get(column.key)
        for one in cell.run_ids if cell is not None else ():
            yield column, one


def _run(
    run: ScoredRun, place: int, items: Mapping[str, PagedItems], condition_of: Mapping[str, str], out: Path | None
) -> JsonObject:
    return {
        "id": run.run_id,
        "cond": place,
        "record": run_link(run, RECORD, out),
        "samples": run_link(run, SAMPLES, out),
        "place": f"runs/{run.run_id}/{SAMPLES}",
        "n": run.n_samples,
        "facts": run_facts(run),
        "verdicts": items[condition_of[run.run_id]].verdicts.get(run.run_id),
        "wrote": list(items[condition_of[run.run_id]].wrote.get(run.run_id, ())),
    }


def _in_order(run: ScoredRun, metric: str, order: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The scores of a run at the items of `order`; NaN of an item that it doesn't have."""
    import numpy as np

    scores = run.items.scores[metric]
    if run.items.items is order or np.array_equal(run.items.items, order):
        return np.asarray(scores, dtype=np.float64)
    known = dict(zip(run.items.items.tolist(), scores.tolist(), strict=True))
    return np.array([known.get(item, np.nan) for item in order.tolist()], dtype=np.float64)


def packed_scores(scores: NDArray[np.float64]) -> str:
    """Scores as a text: `b` and a digit an item, `.` for none, if all are 0 or 1; else `r` and numbers."""
    import numpy as np

    values, places = np.unique(scores, return_inverse=True)
    if np.isin(values[~np.isnan(values)], (0.0, 1.0)).all():
        signs = np.array(["." if value != value else str(int(value)) for value in values])
        return "b" + "".join(signs[places].tolist())
    texts = np.array(["" if value != value else f"{value:.9g}" for value in values])
    return "r" + ";".join(texts[places].tolist())
