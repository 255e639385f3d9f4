"""Runs of other tools into a folder of ours, and ours out to other tools' layouts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import frozen

from slmbench.catalog import Catalog
from slmbench.console import phase, say
from slmbench.errors import UsageError
from slmbench.exchange import RELATIONSHIPS, Imported, export_every_eval_ever, export_lm_eval, import_lm_eval
from slmbench.leaderboard import RunProblems, read_runs, without_texts
from slmbench.runs import Run, RunTable, write_runs_parquet
from slmbench.values import JsonObject
from slmbench.visible import visible


@frozen(kw_only=True)
class ImportPlan:
    """What is asked for. folder: of lm-eval's `--output_path`, or one of its results files. out: where runs go.

    like: folders of runs of ours, beside those of out, that an imported run may be comparable with. model: what its
    model is to be called; as lm-eval called it unless given.
    """

    folder: str
    out: str
    like: tuple[str, ...] = ()
    model: str | None = None


@frozen(kw_only=True)
class ExportPlan:
    """What is asked for. runs: folders. format: parquet, lm-eval or every-eval-ever.

    no_texts: digests stand in place of all texts, as they do for runs that say so themselves.
    organization, relationship, developer: what every_eval_ever's records say that runs don't.
    """

    runs: tuple[str, ...]
    out: str
    format: str | None = None
    no_texts: bool = False
    organization: str | None = None
    relationship: str = RELATIONSHIPS[1]
    developer: str | None = None


def import_plan(plan: ImportPlan, catalog: Catalog) -> Imported:
    """The runs of another tool, as ours, and what can't be imported. Raises UsageError if there is no such folder."""
    if not os.path.exists(plan.folder):
        raise UsageError(f"{plan.folder}: no such folder; give one that lm-eval's --output_path named")
    with phase("import"):
        beside = [plan.out] if os.path.isdir(os.path.join(plan.out, "runs")) else []
        return import_lm_eval(plan.folder, plan.out, _runs([*beside, *plan.like], catalog), model=plan.model)


def export_plan(plan: ExportPlan, catalog: Catalog) -> tuple[list[str], RunProblems | None]:
    """(the files, the faults of runs that were left out). Each run is checked first.

    Raises UsageError without an organization if the format wants one, and RunProblems if no run is what it claims.
    """
    if plan.format is None:
        raise UsageError("what to write is not said; add --parquet, --format lm-eval or --format every-eval-ever")
    if plan.format == "every-eval-ever" and not plan.organization:
        raise UsageError("--format every-eval-ever says who ran the evaluation: add --organization NAME")
    with phase("export"):
        found = read_runs([Path(path) for path in plan.runs], catalog)
        for notice in found.notices:
            say(f"note: {notice}")
        faulty = RunProblems(list(found.problems), left_out=True) if found.problems else None
        if faulty is not None and not found.runs:
            raise faulty
        runs = [Run(str(run.folder), run.record) for run in found.runs]
        if held := sum(bool(run.record.get("no_texts")) for run in runs):
            say(f"note: {held} runs keep their texts to themselves: digests stand in their place")

        def seen(run: Run, sample: JsonObject) -> JsonObject:
            return without_texts(sample) if plan.no_texts or run.record.get("no_texts") else sample

        def samples_of(run: Run) -> list[JsonObject]:
            return [seen(run, sample) for sample in run.samples()]

        if plan.format == "parquet":
            return _export_parquet(RunTable(runs), plan.out, seen), faulty
        if plan.format == "lm-eval":
            files, notices = export_lm_eval(runs, plan.out, samples_of)
            for notice in notices:
                say(f"note: {visible(notice)}")
            return files, faulty
        files = export_every_eval_ever(
            runs,
            plan.out,
            organization=plan.organization or "",
            relationship=plan.relationship,
            developer=plan.developer,
            samples_of=samples_of,
        )
        return files, faulty


def _export_parquet(runs: RunTable, out: str, seen: Callable[[Run, JsonObject], JsonObject]) -> list[str]:
    """A table of runs, a row for every metric of a run, and one of samples. Raises FileError, SlmbenchError."""
    files = [os.path.join(out, name) for name in ("runs.parquet", "samples.parquet")]
    write_runs_parquet(runs, files[0])
    runs.samples(seen).write_parquet(files[1])
    return files


def _runs(paths: Sequence[str], catalog: Catalog) -> list[Run]:
    if not paths:
        return []
    return [Run(str(run.folder), run.record) for run in read_runs([Path(path) for path in paths], catalog).runs]
