"""Runs into a leaderboard and its files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from attrs import evolve

from slmbench.catalog import Catalog
from slmbench.console import phase
from slmbench.errors import DeclarationError, SlmbenchError
from slmbench.leaderboard import (
    Leaderboard,
    RunProblems,
    ScoredRun,
    build_leaderboard,
    measures_of,
    read_runs,
    set_beside,
    write_leaderboard,
)
from slmbench.published import PublishedNumber
from slmbench.recipe import load_suite
from slmbench.schema import TaskSpec, parse
from slmbench.visible import visible
from slmbench.workflow.measures import economies_of
from slmbench.workflow.published import published_of
from slmbench.yamlfile import read_yaml


def rank(
    runs: Sequence[str],
    out: str,
    catalog: Catalog,
    *,
    suite: str | None,
    tasks: Sequence[str] | None,
    no_texts: bool = False,
    notices: Sequence[str] = (),
    strict: bool = False,
    whole: str | None = None,
    without: Collection[str] = (),
    published: Sequence[PublishedNumber] | None = None,
) -> tuple[Leaderboard, str, RunProblems | None]:
    """(the leaderboard of runs, its page's path, the faults of runs that were left out, to be raised after).

    Its files are in `out`. runs: folders, or folders of runs. suite, tasks: only these, in this order. notices: what a
    reader has to know beside what the runs say. strict: nothing is ranked if one has a fault.
    whole: an output folder that the runs are in, whose files in `out` are of all its runs: what is returned is the view
    of these runs and tasks, which doesn't replace what others have there.
    without: names of rows that are left out. published: what others gave for these rows, which is set beside them;
    left out: that of the registry's recipes which the runs' adapters were trained by.
    Raises RunProblems if nothing was ranked because of faults, SlmbenchError if there is no finished run.
    """
    with phase("leaderboard"):
        found = read_runs([Path(run) for run in ([whole] if whole is not None else runs)], catalog)
        if found.problems and (strict or not found.runs):
            raise RunProblems(list(found.problems))
        faulty = RunProblems(list(found.problems), left_out=True) if found.problems else None
        told = [f"{visible(folder.name)}: left out, as it is not what it claims" for folder in found.left_out]
        there = list(dict.fromkeys(run.task for run in found.runs))
        asked = load_suite(catalog, suite) if suite else None
        primary, averaged = primaries(there, catalog), asked.aggregate if asked is not None else None
        measured = asked.tasks if asked is not None and asked.table == "measures" else []
        followed = published_of(found.runs, catalog)
        numbers = followed if published is None else tuple(published)
        economies = economies_of(found.runs, measured, catalog) if measured else {}
        everything = [*told, *found.notices, *notices]

        def build(
            of: Sequence[ScoredRun],
            named: str | None,
            only: Sequence[str] | None,
            numbers: Sequence[PublishedNumber] = numbers,
        ) -> Leaderboard:
            counted = averaged if named is not None else None
            board = build_leaderboard(of, named, only, everything, primary=primary, aggregate=counted, without=without)
            beside = set_beside(board, {run.run_id: run for run in of}, numbers)
            return evolve(board, published=beside, measures=measures_of(board, of, measured, economies))

        wanted = list(tasks) if tasks else None
        if whole is None:
            board = written = build(found.runs, suite, wanted)
        else:
            own = {Path(run).resolve() for run in runs}
            board = build([run for run in found.runs if _within(run.folder, own)], suite, wanted)
            named = suite if wanted is not None and set(there) <= set(wanted) else None
            every = tuple(dict.fromkeys((*numbers, *followed)))
            written = build(found.runs, named, wanted if named is not None else None, every)
        if not board.rows:
            raise SlmbenchError("no finished run to rank; see `slmbench eval`")
        write_leaderboard(written, list(found.runs), Path(out), no_texts=no_texts)
    return board, str(Path(out) / "index.html"), faulty


def failed_of(*errors: SlmbenchError | None) -> SlmbenchError | None:
    """One error for all that went wrong, the first's own words last, as its exit code is the whole's; None for none."""
    there = [error for error in errors if error is not None]
    if len(there) < 2:
        return there[0] if there else None
    several = SlmbenchError("\n".join(str(error) for error in reversed(there)))
    several.exit_code = there[0].exit_code
    return several


def _within(path: Path, folders: Collection[Path]) -> bool:
    """Whether a path is one of the folders, or lies in one."""
    place = path.resolve()
    return place in folders or any(parent in folders for parent in place.parents)


def primaries(tasks: Sequence[str], catalog: Catalog) -> dict[str, str]:
    """Task -> the primary metric that it declares. Of tasks that this catalog doesn't know, or not soundly, nothing."""
    files, found = catalog.files("tasks"), {}
    for task in tasks:
        with suppress(DeclarationError, OSError):
            declared = parse(TaskSpec, read_yaml(files[task])).primary if task in files else None
            if declared is not None:
                found[task] = declared
    return found
