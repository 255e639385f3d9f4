"""`slmbench check`: does a task do what it declares? Its schema, hooks, prompts, gold answers, shots and splits.

Nothing is downloaded: rows come from the task's generator, a mirror or a file, else from its golden rows.
"""

from __future__ import annotations

import os

from attrs import evolve, frozen

from slmbench.catalog import Catalog
from slmbench.checks._findings import Findings, problems_in, problems_of
from slmbench.checks._formats import Written, write_down
from slmbench.checks._golden import no_golden_rows, read_golden_rows
from slmbench.checks._hooks import check_generator
from slmbench.checks._leaks import check_leaks
from slmbench.checks._programs import PROGRAM_ROWS, check_programs
from slmbench.checks._report import CheckReport, Lengths, measure
from slmbench.checks._rows import GOLDEN, Split, convert, is_local, local_rows
from slmbench.checks._scores import check_choices, check_scores
from slmbench.checks._shown import check_gold_is_hidden
from slmbench.checks._targets import check_extraction, check_reasoning, check_room, check_room_in_tokens
from slmbench.datasets import Row, Rows
from slmbench.errors import Problem, SlmbenchError, TrustError, UsageError
from slmbench.formats import format_names
from slmbench.lengths import Ruler, open_ruler
from slmbench.metrics import load_scorer
from slmbench.paths import shown
from slmbench.plugins import load_plugins
from slmbench.schema import plain_name
from slmbench.task import Task, load_task_folder
from slmbench.values import Example
from slmbench.yamlfile import read_yaml

ROWS_CHECKED = 200
"""Rows of a split that are rendered and scored."""


def find_task(name: str, catalog: Catalog, *, trust: bool = False) -> str:
    """The folder of a task, given by name or by path: the folder's, or that of any file in it.

    Raises UsageError if there is none, TrustError for a path outside the catalog that has a plugin.py, unless
    trust is True.
    """
    files = catalog.files("tasks")
    if name in files:
        return os.path.dirname(files[name])
    if not (os.sep in name or "/" in name or os.path.isdir(name)):
        return os.path.dirname(catalog.find("tasks", name))
    folder = (os.path.dirname(name) or os.curdir) if os.path.isfile(name) else name
    above = os.path.dirname(os.path.abspath(folder))
    if folder != name and not _is_task(folder) and _is_task(above):  # A file of rows in a folder of its own.
        folder = os.path.dirname(folder) or os.curdir
    if not _is_task(folder):
        raise UsageError(f"{shown(folder)} has no task.yaml; name a task's folder, or make one: `slmbench new task`")
    known = {os.path.realpath(os.path.dirname(path)) for path in files.values()}
    plugin = os.path.join(folder, "plugin.py")
    if os.path.lexists(plugin) and not trust and os.path.realpath(folder) not in known:
        raise TrustError(
            f"{shown(plugin)} would be run, and this folder is not on SLMBENCH_PATH; read it, then add --trust"
        )
    return folder


def _is_task(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, "task.yaml"))


def check_task(
    name: str,
    catalog: Catalog,
    *,
    trust: bool = False,
    run_plugin: bool = True,
    data: str = "auto",
    ruler: Ruler | None = None,
    rows: int = ROWS_CHECKED,
) -> CheckReport:
    """Checks one task, given by name or by its folder's path.

    run_plugin: False checks the declaration and the golden rows' columns alone, and needs no trust. data: 'samples'
    leaves everything but the golden rows aside. ruler: whose tokenizer prompts are rendered for and counted with,
    nano's unless given. rows: how many of a split are rendered and scored. Raises UsageError or TrustError as
    `find_task` does; all else that is wrong is in the report.
    """
    folder = find_task(name, catalog, trust=trust or not run_plugin)
    title = os.path.basename(os.path.abspath(folder))
    golden_path = os.path.join(folder, "samples.jsonl")
    try:
        task = load_task_folder(folder, catalog, run_plugin=False)
    except SlmbenchError as error:
        missing = [] if os.path.isfile(golden_path) else [no_golden_rows(golden_path)]
        return CheckReport(title, (*problems_in(error, folder), *missing))
    found = Findings(read_yaml(os.path.join(folder, "task.yaml")))
    _check_header(task, found)
    golden = read_golden_rows(task, found)
    if not run_plugin:
        found.notices.append("plugin.py was not run; declaration and golden rows' columns checked")
        return CheckReport(title, found.all(), notices=tuple(found.notices))
    try:
        task = load_task_folder(folder, catalog)
    except SlmbenchError as error:
        found.add(*problems_of(error, found))
        return CheckReport(title, found.all(), notices=tuple(found.notices))
    return _check_rows(task, golden, data, ruler or open_ruler("nano", catalog), rows, found)


def check_plugins(catalog: Catalog) -> list[CheckReport]:
    """A report of each plugin file or module that can't be loaded, or has a metric that can't; it runs them all."""
    plugins = load_plugins(catalog)
    wrong = {error: path for path, _, error in plugins.refusals}
    for entry in plugins:
        try:
            load_scorer(entry.name, plugins) if entry.kind == "metric" else None
        except SlmbenchError as error:
            wrong.setdefault(error, entry.path)
    return [CheckReport(shown(path), tuple(problems_in(error, path))) for error, path in wrong.items()]


def _check_header(task: Task, found: Findings) -> None:
    try:
        plain_name(task.name)
    except ValueError as error:
        found.add(
            Problem(shown(task.folder), 0, 0, f"{task.name!r} is not a valid task name: {error}; rename the folder")
        )
    if not _license(task):
        message = "neither the task nor its data set names a 'license'; say under what terms the rows may be used"
        found.at(("license",), message)


def _license(task: Task) -> str:
    """The licence of the rows, the task's own first; '' where neither says one."""
    return (task.spec.license or "").strip() or (task.dataset.spec.license or "").strip()


@frozen(eq=False)
class _Group:
    """Rows that are checked together: of one split, in one mode of the chain of thought. task: bound to their shots."""

    task: Task
    split: str
    source: str
    examples: tuple[Example, ...]
    mode: str = ""


def _check_rows(task: Task, golden: list[Row], data: str, ruler: Ruler, n_checked: int, found: Findings) -> CheckReport:
    splits = _local_splits(task, data, found)
    golden_rows = Rows(task.dataset.name, "samples", "samples", None, golden)
    samples = convert(task, golden_rows, found)
    evaluated = splits.get(task.spec.split, samples)
    if task.dataset.spec.generated is not None and task.spec.split in splits:
        check_generator(task, found)
    groups = [_Group(_bound(task, splits, samples), one.name, one.source, one.examples) for one in splits.values()]
    groups.append(_Group(_bound(task, {}, samples), samples.name, GOLDEN, samples.examples))
    for mode in _other_modes(task):
        turned = task.with_cot(mode)
        again = convert(turned, golden_rows, found)
        groups.append(_Group(_bound(turned, {}, again), again.name, GOLDEN, again.examples, f" (--cot {mode})"))
    lengths = None
    programs: list[Written] = []
    for group in groups:
        rows = _check_group(group, n_checked, ruler, found)
        if group.split == evaluated.name and not group.mode:
            lengths = _lengths(rows, ruler)
        programs += rows if group.source == GOLDEN else rows[:PROGRAM_ROWS]
    if task.kind == "code" and programs:
        check_programs(task, programs, found)
    if evaluated is not samples:
        check_leaks(task, splits, found)
    return _report(task, found, evaluated, [*splits.values(), samples], groups, n_checked, lengths)


def _report(
    task: Task,
    found: Findings,
    evaluated: Split,
    splits: list[Split],
    groups: list[_Group],
    n_checked: int,
    lengths: Lengths | None,
) -> CheckReport:
    checked = sum(len(group.examples[:n_checked]) for group in groups if not group.mode)
    formats = {name: "failed" if ("format", name) in found.failed else "ok" for name in format_names(task.plugins)}
    metrics = {
        scorer.name: "failed"
        if ("metric", scorer.name) in found.failed
        else "unchecked"
        if scorer.name in found.unchecked
        else "ok"
        for scorer in task.scorers
    }
    return CheckReport(
        task=task.name,
        problems=found.all(),
        kind=task.kind,
        source=evaluated.source if evaluated.examples else "",
        rows=checked,
        splits={GOLDEN if split.name == "samples" else split.name: len(split.examples) for split in splits},
        formats=formats if checked else {},
        metrics=metrics if checked else {},
        lengths=lengths,
        license=_license(task),
        notices=tuple(found.notices),
        to_pull=found.to_pull,
    )


def _local_splits(task: Task, data: str, found: Findings) -> dict[str, Split]:
    """The splits that the task uses and this machine has."""
    spec = task.spec
    wanted = [spec.split, spec.train_split, spec.fewshot.split if spec.fewshot.n else None]
    splits: dict[str, Split] = {}
    away: list[str] = []
    for name in dict.fromkeys(str(split) for split in wanted if split in task.dataset.spec.split_names):
        if data == "samples":
            continue
        if not is_local(task, name, found):
            away.append(name)
        elif (rows := local_rows(task, name, found)) is not None:
            for column, n in rows.left_out.items():
                when = "before rows are held out" if task.dataset.spec.holdout is not None else f"of split {name!r}"
                found.note(f"rows left out {when}, as they have no {column!r} (`filled`): {n:,}")
            splits[name] = convert(task, rows, found)
    if away:
        are = f"splits {', '.join(map(repr, away))} are" if len(away) > 1 else f"split {away[0]!r} is"
        where = "only on the hub (see `slmbench data pull`)"
        if task.dataset.spec.local is not None:
            where = "a file of your own, and SLMBENCH_DATA has none"
        found.to_pull = task.dataset.name if task.dataset.spec.hub is not None else ""
        but = "" if spec.split in splits else "; only the golden rows were checked, and no splits compared"
        found.note(f"{are} {where}{but}")
    return splits


def _other_modes(task: Task) -> list[str]:
    cot = task.spec.cot
    if cot is None:
        return []
    return [mode for mode in ("off", "zero", "few") if mode != task.cot and (mode != "zero" or cot.instruction)]


def _bound(task: Task, splits: dict[str, Split], samples: Split) -> Task:
    """The task with its shots at hand, so that asking for them can't lead to the hub: the golden rows, if need be."""
    few = task.spec.fewshot.split
    return evolve(task, rows={}, examples={few: splits.get(few, samples).examples}, shots={})


def _check_group(group: _Group, n_checked: int, ruler: Ruler, found: Findings) -> list[Written]:
    examples = group.examples[:n_checked]
    task = _with_shots(group, examples, found)
    rows = write_down(task, examples, ruler.tokenizer, group.mode, found)
    if not group.mode:
        for example in examples:
            check_choices(example, found)
    where = "" if group.source == GOLDEN else group.split
    check_gold_is_hidden(task, examples, ruler.tokenizer, where, group.mode, found)
    if check_extraction(task, rows, where, group.mode, found):
        check_scores(task, rows, where, group.mode, found)
    if not where or where == task.spec.split:
        check_room(task, rows, where, group.mode, found)
        if ruler.for_answers:
            check_room_in_tokens(task, rows, where, group.mode, ruler, found)
    if not where or where != task.spec.split:
        check_reasoning(task, group.examples, where, found)
    return rows


def _with_shots(group: _Group, examples: tuple[Example, ...], found: Findings) -> Task:
    task, few = group.task, group.task.spec.fewshot
    there = len(task.examples(task.shot_split)) if task.shot_split is not None else 0
    if task.shot_split is not None and (not there or (group.source == GOLDEN and there < few.n + few.skip)):
        return task.with_shots(0)  # Why there are none, or too few golden rows, is a problem already.
    try:
        for example in examples:
            task.shots(example)
    except SlmbenchError as error:
        among = " among the golden rows" if group.source == GOLDEN else ""
        found.at(("fewshot", "n"), f"{error}{among}")
        return task.with_shots(0)
    return task


def _lengths(rows: list[Written], ruler: Ruler) -> Lengths | None:
    written = [(row.prompt, row.answer) for row in rows if row.prompt is not None]
    return measure([prompt for prompt, _ in written], [answer for _, answer in written], ruler)
