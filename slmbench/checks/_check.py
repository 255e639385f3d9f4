"""`slmbench check`: does a task do what it declares? Its schema, hooks, prompts, gold answers, shots and splits.

Nothing is downloaded: rows come from the task's generator, a mirror or a file, else from its golden rows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from attrs import evolve, frozen

from slmbench.catalog import FORMAT_SUMMARIES, Catalog
from slmbench.checks._findings import Findings, located, problems_of
from slmbench.checks._scores import check_choices, check_scores
from slmbench.checks._splits import Split, check_leaks, convert, local_rows
from slmbench.datasets import Row, Rows, fetch_rows, sample_rows
from slmbench.errors import DataError, DeclarationError, Problem, SlmbenchError, TrustError, UsageError
from slmbench.paths import shown
from slmbench.schema import plain_name
from slmbench.task import Task, load_task_folder
from slmbench.values import Example
from slmbench.yamlfile import read_yaml

ROWS_CHECKED = 200
"""Rows of a split that are rendered and scored."""

GOLDEN_ROWS = 4


@frozen
class CheckReport:
    """What a check found. source: of the evaluated rows, '' where none could be had. rows: how many were rendered and
    scored, over all splits. longest_prompt_tokens: in the plain format, as the tokenizer that was used counts them.
    notices: what could not be checked, and why."""

    task: str
    problems: tuple[Problem, ...]
    source: str = ""
    rows: int = 0
    formats: tuple[str, ...] = ()
    longest_prompt_tokens: int | None = None
    notices: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """`{"task", "ok", "problems": [{"path", "line", "message"}]}`."""
        problems = [{"path": one.path, "line": one.line, "message": one.message} for one in self.problems]
        return {"task": self.task, "ok": self.ok, "problems": problems}


def find_task(name: str, catalog: Catalog, *, trust: bool = False) -> str:
    """The folder of a task, given by name or by path.

    Raises UsageError where there is none, TrustError for a path outside the catalog that has a plugin.py, unless
    trust is True.
    """
    files = catalog.files("tasks")
    if name in files:
        return os.path.dirname(files[name])
    if not (os.sep in name or "/" in name or os.path.isdir(name)):
        return os.path.dirname(catalog.find("tasks", name))
    folder = os.path.dirname(name) or os.curdir if os.path.basename(name) == "task.yaml" else name
    if not os.path.isfile(os.path.join(folder, "task.yaml")):
        raise UsageError(f"{shown(folder)} has no task.yaml; name a task's folder, or make one: `slmbench new task`")
    known = {os.path.realpath(os.path.dirname(path)) for path in files.values()}
    plugin = os.path.join(folder, "plugin.py")
    if os.path.lexists(plugin) and not trust and os.path.realpath(folder) not in known:
        raise TrustError(
            f"{shown(plugin)} would be run, and this folder is not on SLMBENCH_PATH; read it, then add --trust"
        )
    return folder


def check_task(
    name: str,
    catalog: Catalog,
    *,
    trust: bool = False,
    run_plugin: bool = True,
    data: str = "auto",
    tokenizer: Any = None,
    rows: int = ROWS_CHECKED,
) -> CheckReport:
    """Checks one task, given by name or by its folder's path.

    run_plugin: False checks the declaration and the golden rows' columns alone, and needs no trust. data: 'samples'
    leaves everything but the golden rows aside. tokenizer: what prompts are rendered for, nano's unless given. rows:
    how many of a split are rendered and scored. Raises UsageError or TrustError as `find_task` does; all else that is
    wrong is in the report.
    """
    folder = find_task(name, catalog, trust=trust or not run_plugin)
    title = os.path.basename(os.path.abspath(folder))
    golden_path = os.path.join(folder, "samples.jsonl")
    try:
        task = load_task_folder(folder, catalog, run_plugin=False)
    except DeclarationError as error:
        missing = [] if os.path.isfile(golden_path) else [_no_golden_rows(golden_path)]
        return CheckReport(title, (*error.problems, *missing))
    found = Findings(read_yaml(os.path.join(folder, "task.yaml")))
    _check_header(task, found)
    golden = _golden_rows(task, found)
    if not run_plugin:
        found.notices.append("plugin.py was not run; declaration and golden rows' columns checked")
        return CheckReport(title, found.all(), notices=tuple(found.notices))
    try:
        task = load_task_folder(folder, catalog)
    except SlmbenchError as error:
        found.add(*problems_of(error, found))
        return CheckReport(title, found.all(), notices=tuple(found.notices))
    return _check_rows(task, golden, data, tokenizer or _nano_tokenizer(catalog), rows, found)


def _nano_tokenizer(catalog: Catalog) -> Any:
    from slmbench.models import load_tokenizer, resolve_model

    return load_tokenizer(resolve_model("nano", catalog))


def _check_header(task: Task, found: Findings) -> None:
    try:
        plain_name(task.name)
    except ValueError as error:
        found.add(Problem(shown(task.folder), 0, 0, f"{task.name!r} is no task's name: {error}; rename the folder"))
    if not (task.spec.license or task.dataset.spec.license):
        message = "neither the task nor its data set names a 'license'; say under what terms the rows may be used"
        found.at(("license",), message)


def _no_golden_rows(path: str) -> Problem:
    message = f"is missing; write at least {GOLDEN_ROWS} rows in the data set's columns, for tests and `--data samples`"
    return Problem(shown(path), 0, 0, message)


def _golden_rows(task: Task, found: Findings) -> list[Row]:
    path = task.samples_path
    if not os.path.isfile(path):
        found.add(_no_golden_rows(path))
        return []
    try:
        rows = sample_rows(task.dataset, path, task.spec.split).rows
    except DataError as error:
        found.add(located(str(error)) or Problem(shown(path), 0, 0, str(error)))
        return []
    wanted = max(GOLDEN_ROWS, task.spec.fewshot.n)
    if len(rows) < wanted:
        why = "its shots come from there under `--data samples`" if wanted > GOLDEN_ROWS else "edge cases among them"
        message = f"{len(rows)} golden rows; the task needs at least {wanted} ({why})"
        found.add(Problem(shown(path), len(rows), 1, message))
    return rows


def _check_rows(
    task: Task, golden: list[Row], data: str, tokenizer: Any, n_checked: int, found: Findings
) -> CheckReport:
    spec = task.spec
    wanted = [spec.split, spec.train_split, spec.fewshot.split if spec.fewshot.n else None]
    there = task.dataset.spec.split_names
    splits: dict[str, Split] = {}
    for name in dict.fromkeys(split for split in wanted if split in there):
        rows = None if data == "samples" else local_rows(task, str(name), found)
        if rows is not None:
            splits[str(name)] = convert(task, rows, found)
    samples = convert(task, Rows(task.dataset.name, "samples", "samples", None, golden), found)
    evaluated = splits.get(spec.split, samples)
    if task.dataset.spec.generated is not None and spec.split in splits:
        _check_generator(task, found)
    # Preloaded, so that asking the task for its shots can't lead to the hub.
    shot_split = spec.fewshot.split
    shown_first = splits[shot_split].examples if shot_split in splits else samples.examples
    bound = _with_shots(evolve(task, rows={}, examples={shot_split: shown_first}), found)
    longest = 0
    checked = 0
    for split in (*splits.values(), samples):
        few = split.examples[:n_checked]
        longest = max([longest, *_check_prompts(bound, few, tokenizer, found)])
        for example in few:
            check_choices(example, found)
            check_scores(task.scorers, example, spec.generation.stop, found)
        checked += len(few)
    if evaluated is samples:
        if samples.examples and data != "samples":
            found.notices.append("shots and splits were not compared: only the golden rows are here")
    else:
        check_leaks(task, splits, found)
    return CheckReport(
        task=task.name,
        problems=found.all(),
        source=evaluated.source if evaluated.examples else "",
        rows=checked,
        formats=tuple(FORMAT_SUMMARIES) if checked else (),
        longest_prompt_tokens=longest or None,
        notices=tuple(found.notices),
    )


def _check_generator(task: Task, found: Findings) -> None:
    # The hook may keep a random state of its own; then a run can't be repeated, nor an item named by its number.
    twice = [fetch_rows(task.dataset, task.spec.split, limit=3).rows for _ in range(2)]
    if twice[0] != twice[1]:
        path = os.path.join(task.folder, "plugin.py")
        line = task.plugin.module.generate.__code__.co_firstlineno if task.plugin is not None else 0
        message = "generate() makes other rows when called again; draw from random.Random(f'{seed}/{split}/{index}')"
        found.add(Problem(shown(path), line, 1, message))


def _with_shots(task: Task, found: Findings) -> Task:
    few = task.spec.fewshot
    if few.n and not task.examples(few.split):
        return task.with_shots(0)  # Why there are none is a problem already.
    try:
        task.shots()
    except SlmbenchError as error:
        found.at(("fewshot", "n"), str(error))
        return task.with_shots(0)
    return task


def _check_prompts(task: Task, examples: Sequence[Example], tokenizer: Any, found: Findings) -> list[int]:
    """Renders every example in every format; returns the plain prompts' lengths in tokens."""
    from slmbench.formats import load_format, training_ids

    lengths = []
    for name in FORMAT_SUMMARIES:
        style = load_format(name)
        for example in examples:
            try:
                rendered = style.render(task.prompt(example), tokenizer)
                prompt, _ = training_ids(style, tokenizer, rendered, task.answer(example))
            except SlmbenchError as error:
                fault = found.document.problem(("prompt",), f"format {name!r}: {error}")
                found.of_row("format", fault, example.id)
                continue
            if not prompt:
                fault = found.document.problem(("prompt",), f"format {name!r}: the prompt is empty")
                found.of_row("format", fault, example.id)
            if name == "plain":
                lengths.append(len(prompt))
    return lengths
