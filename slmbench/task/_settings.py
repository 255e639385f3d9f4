"""What a run asks of its tasks beside their declarations: shots, chain of thought, samples, metrics."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from attrs import evolve, frozen

from slmbench.catalog import Catalog
from slmbench.errors import SlmbenchError, UsageError
from slmbench.metrics import load_scorer
from slmbench.paths import shown
from slmbench.registry import Refusal, Registered, Registry
from slmbench.task._task import Task

LIKELIHOODS = ("bits_per_byte", "target_bits_per_byte")
"""The metrics of `--perplexity`: of choice tasks, of others."""


@frozen
class Settings:
    """In place of what tasks declare; None leaves that.

    cot: off, zero or few. samples: an item, of tasks that draw some. max_tokens: generated
    at most, where a task declares more. perplexity: how likely a model finds the right answer is scored, too.
    """

    shots: int | None = None
    cot: str | None = None
    samples: int | None = None
    metrics: tuple[str, ...] | None = None
    max_tokens: int | None = None
    perplexity: bool = False

    def of(self, tasks: Sequence[Task]) -> tuple[list[Task], list[str]]:
        """(the tasks with these settings, what a person should know of it).

        A setting that means nothing to a task leaves it alone, and the notice names it. Raises UsageError if it
        means nothing to any of them.
        """
        adjusted, notices = list(tasks), []
        for task in tasks:
            if task.spec.split == task.spec.fallback_split and task.data != "samples":
                notices.append(f"{task.name}: evaluated on split {task.spec.split!r}, as the mirror lacks its own")
        if self.cot is not None:
            able = [task.name for task in tasks if task.spec.cot is not None]
            notices += _left_alone("--cot", "declares a chain of thought", able, tasks)
            adjusted = [task.with_cot(self.cot) if task.name in able else task for task in adjusted]
        if self.samples is not None:
            able = [task.name for task in tasks if task.kind == "code" or task.spec.generation.temperature > 0]
            notices += _left_alone("--samples", "draws samples (of kind code, or with a temperature)", able, tasks)
            before = {task.name: task.scorers for task in adjusted}
            adjusted = [task.with_samples(self.samples) if task.name in able else task for task in adjusted]
            for task in adjusted:
                gone = [scorer.name for scorer in before[task.name] if scorer not in task.scorers]
                if gone:
                    why = "too few" if task.kind == "code" else "too many for what is pooled over items"
                    notices.append(f"{task.name}: {', '.join(gone)} left out: --samples {self.samples} are {why}")
        if self.perplexity:
            adjusted = [_with_perplexity(task) for task in adjusted]
        if self.metrics is not None:
            known = {scorer.name for task in adjusted for scorer in task.scorers}
            strange = [name for name in self.metrics if name not in known]
            if strange:
                why = f" ({'; '.join(notices)})" if any(" left out: " in notice for notice in notices) else ""
                raise UsageError(
                    f"no task has the metric {', '.join(strange)}; they have {', '.join(sorted(known))}{why}"
                )
            able = [task.name for task in adjusted if any(scorer.name in self.metrics for scorer in task.scorers)]
            others = [task.name for task in adjusted if task.name not in able]
            if others:
                notices.append(f"--metrics leaves {', '.join(others)} alone: they have none of these")
            kept = (*self.metrics, *(LIKELIHOODS if self.perplexity else ()))
            adjusted = [task.with_metrics(kept) if task.name in able else task for task in adjusted]
        return [task.with_max_tokens(self.max_tokens).with_shots(self.shots) for task in adjusted], notices


def _with_perplexity(task: Task) -> Task:
    """The same task, scored by the bits that its right answer costs, too; one without right answers as it is."""
    name = LIKELIHOODS[0] if task.kind == "choice" else LIKELIHOODS[1]
    asks_none = task.kind != "choice" and not task.spec.answer
    there = any(scorer.name == name for scorer in task.scorers)
    return task if asks_none or there else evolve(task, scorers=(*task.scorers, load_scorer(name)))


def _left_alone(flag: str, why: str, able: Sequence[str], tasks: Sequence[Task]) -> list[str]:
    others = [task.name for task in tasks if task.name not in able]
    if not able:
        raise UsageError(f"{flag}: none of these tasks {why}: {', '.join(others)}")
    return [f"{flag} leaves {', '.join(others)} alone: only a task that {why} heeds it"] if others else []


def formats_of(tasks: Iterable[Task], catalog: Catalog | None = None) -> Registry:
    """The formats that plugins bring for every one of the tasks.

    Asking for one that only some of them have, or (with a catalog) another task alone, raises UsageError with its place
    and what to do; for one of which two files have the name, DeclarationError with both.
    """
    asked = {task.name: task.plugins for task in tasks}
    others = catalog.headers("format") if catalog is not None else []
    places = {one.name: (one.path, one.line) for one in others if os.path.basename(one.path) == "plugin.py"}
    found: dict[str, list[Registered]] = {name: [] for name in places}
    for entry in (entry for plugins in asked.values() for entry in plugins if entry.kind == "format"):
        found.setdefault(entry.name, []).append(entry)
    common: list[Registered] = []
    refusals = [one for plugins in asked.values() for one in plugins.refusals]
    for name, entries in found.items():
        path, line = (entries[0].path, entries[0].line) if entries else places[name]
        without = [task for task, plugins in asked.items() if name not in plugins.names("format")]
        said = (
            f"format {name!r} is defined in {shown(path)}:{line} for that task alone, and {', '.join(without)} can't "
            "be asked in it; move it to plugins/ of a folder of SLMBENCH_PATH, or to a package, and all tasks have it"
        )
        try:
            if without:
                raise UsageError(said)
            common += Registry(entries)
        except SlmbenchError as error:
            refusals.append(Refusal(path, frozenset({("format", name)}), error))
    return Registry(common, refusals)


def engines_of(tasks: Iterable[Task]) -> Registry:
    """The engines that plugins bring for any of the tasks. Raises DeclarationError if two have one name."""
    found = [task.plugins for task in tasks]
    engines = (entry for plugins in found for entry in plugins if entry.kind == "engine")
    return Registry(engines, dict.fromkeys(one for plugins in found for one in plugins.refusals))
