"""What records cost in tokens by format, for the table of measures of a suite that asks for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from slmbench.catalog import Catalog
from slmbench.console import phase
from slmbench.errors import SlmbenchError
from slmbench.leaderboard import Economies, Economy, ScoredRun
from slmbench.lengths import Ruler, open_ruler
from slmbench.task import load_task
from slmbench.tokens import format_costs
from slmbench.workflow.quiet import quiet_libraries

NO_TOKENIZER = "its tokenizer isn't here"
NO_RECORDS = "its rows can't be written so here"


def economies_of(runs: Sequence[ScoredRun], tasks: Collection[str], catalog: Catalog) -> Economies:
    """(model, task, format) -> tokens a record in the model's own tokenizer, or why they could not be counted.

    Of the first rows of each task that this machine has; nothing is downloaded, and no model is loaded.
    """
    wanted = {
        (run.model, run.task, str(run.record.get("format") or "")): run
        for run in runs
        if run.task in tasks and run.record.get("format")
    }
    rulers: dict[str, Ruler | None] = {}
    made: dict[tuple[str, str, str], Economy | str] = {}
    if not wanted:
        return made
    with phase("tokens a record"):
        quiet_libraries()
        for (model, name, format), run in wanted.items():
            if model not in rulers:
                rulers[model] = _ruler(run, catalog)
            ruler = rulers[model]
            made[model, name, format] = NO_TOKENIZER if ruler is None else _economy(ruler, name, format, run, catalog)
    return made


def _ruler(run: ScoredRun, catalog: Catalog) -> Ruler | None:
    """The tokenizer of a run's model, by its name or by where it was; None if this machine has neither."""
    names = (run.model, str(run.record["model"].get("id") or ""), run.model.removesuffix("-twin"))
    for name in dict.fromkeys(name for name in names if name):
        try:
            return open_ruler(name, catalog)
        except (SlmbenchError, OSError):
            continue
    return None


def _economy(ruler: Ruler, name: str, format: str, run: ScoredRun, catalog: Catalog) -> Economy | str:
    data = "samples" if run.record["dataset"].get("source") == "samples" else "auto"
    try:
        task = load_task(name, catalog, data=data)
        return Economy(*format_costs(task, ruler, format))
    except (SlmbenchError, OSError):
        return NO_RECORDS
