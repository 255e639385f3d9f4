"""Weights and parameters of merges, found on rows that no input was trained on; no test split is read here."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from attrs import frozen

from slmbench.catalog import Catalog
from slmbench.console import phase, say
from slmbench.errors import UsageError
from slmbench.files import file_sha256
from slmbench.formats import Format, load_format
from slmbench.journal import Journal
from slmbench.merge_recipe import Candidate
from slmbench.merging import MergePlan
from slmbench.merging.methods.soup import greedy_soup
from slmbench.models import LoadedModel, is_whole_model, load_tokenizer, read_adapter
from slmbench.runs import canonical_sha256
from slmbench.schema import MergeSpec
from slmbench.statistics.elimination import Round, eliminate
from slmbench.task import formats_of
from slmbench.training import HeldOutRows, held_out_rows, without_evaluated
from slmbench.values import JsonObject
from slmbench.workflow.candidates import Yardstick, folder_on, result_on
from slmbench.workflow.merge import ReadyMerges, asked_tasks
from slmbench.workflow.recipes import bind_tasks

SEARCHES = "searches"
_SHOWN = 6
RACE_ALPHA = 0.05
"""Of the best candidate's leaving, in a race by e-values."""


@frozen
class Found:
    """What a merge is made with. inputs: in place of the merge's own, () for those. log: how it was found."""

    settled: MergeSpec
    inputs: tuple[str, ...] = ()
    log: JsonObject | None = None


class Search:
    """The searches of one recipe: rows are read, and the base is loaded, when the first of them needs it."""

    def __init__(self, ready: ReadyMerges, catalog: Catalog) -> None:
        self.ready, self.catalog = ready, catalog

    def of(self, merge: str) -> Found:
        """The merge with everything settled that is searched; the same rows and inputs always find the same."""
        spec, candidates = self.ready.recipe.spec.merges[merge], self.ready.recipe.candidates(merge)
        if spec.greedy:
            return self._greedy(merge)
        settled = [self.ready.recipe.settled(merge, one) for one in candidates]
        if len(settled) == 1:
            return Found(settled[0])
        return self._raced(merge, candidates, settled)

    def _raced(self, merge: str, candidates: Sequence[Candidate], settled: Sequence[MergeSpec]) -> Found:
        yard, by_e_values = self.yardstick, self.ready.recipe.spec.search.race
        if by_e_values and (yard.range is None or any(label is not None for label in yard.clusters)):
            why = "are not scores in one range (search.by=score)" if yard.range is None else "are of rows in clusters"
            raise UsageError(
                f"merge {merge!r}: search.race tells candidates apart by e-values, and the values that this search "
                f"goes by {why}; leave it out, and intervals do that"
            )
        seed = next(iter(self.ready.recipe.result_names(merge).values()))
        plans = [self.ready.plan(merge, one, "candidate", seed) for one in settled]
        names = [one.name for one in candidates]
        rounds: list[Round] = []
        with self._journal(merge, plans) as values:
            race = eliminate(
                len(plans),
                lambda number, places: values(self._digest(plans[number]), plans[number], places),
                len(yard.items),
                self._first_items(),
                clusters=yard.clusters,
                range_of=yard.range,
                alpha=RACE_ALPHA if by_e_values else None,
                draw=len(yard.held),
            )
            with phase(f"search {merge}"):
                for found in race:
                    rounds.append(found)
                    say(_told(merge, found, names, yard))
        last = rounds[-1]
        if not last.kept:
            raise UsageError(f"merge {merge!r}: no candidate has a score that is finite; search other values")
        log = self._log() | {
            "candidates": [{"name": name, "chosen": _chosen(one)} for name, one in zip(names, candidates, strict=True)],
            "rounds": [_round(one, names, yard) for one in rounds],
            "chosen": names[last.leader],
            "as_good": [names[number] for number in last.kept if number != last.leader],
        }
        return Found(settled[last.leader], log=log)

    def _greedy(self, merge: str) -> Found:
        """Wortsman et al. 2022, recipe 1: the best input, then each next one if the average gets no worse by it."""
        ready, yard = self.ready, self.yardstick
        settled = ready.recipe.settled(merge, Candidate({}, ""))
        names = ready.recipe.inputs_of(merge)
        every = range(len(yard.items))

        def mean(inputs: Sequence[str], values: Callable[..., Sequence[float]]) -> float:
            if len(inputs) == 1:
                found = values(self._sha256(ready.folders[inputs[0]]), ready.folders[inputs[0]], every)
            else:
                plan = ready.plan(merge, settled, "candidate", None, inputs)
                found = values(self._digest(plan), plan, every)
            return math.fsum(found) / len(found)

        with self._journal(merge, [ready.plan(merge, settled, "candidate", None)]) as values, phase(f"search {merge}"):
            alone = {name: mean([name], values) for name in names}
            made = greedy_soup(alone, lambda members: mean(members, values))
        for one in made.steps:
            say(f"search {merge}: {one.member}: {yard.told(one.score)}, {'joins' if one.kept else 'stays out'}")
        log = self._log() | {
            "alone": {name: yard.shown(value) for name, value in alone.items()},
            "tried": [{"input": one.member, yard.by: yard.shown(one.score), "joined": one.kept} for one in made.steps],
            "chosen": list(made.members),
        }
        return Found(settled, made.members, log)

    def _first_items(self) -> int:
        yard = self.yardstick
        return min(len(yard.items), self.ready.recipe.spec.search.first_rows * len(yard.held))

    def _log(self) -> JsonObject:
        yard = self.yardstick
        return {
            "by": yard.by,
            "lower_is_better": yard.by == "loss",
            **({"race": True} if self.ready.recipe.spec.search.race else {}),
            "rows": {one.task.name: {"rows": len(one.rows), "from": one.origin} for one in yard.held},
        }

    @cached_property
    def yardstick(self) -> Yardstick:
        """The rows of the search, and what they are scored by."""
        ready, recipe, asked = self.ready, self.ready.recipe, self.ready.asked
        names = recipe.spec.search.tasks or recipe.evaluation_tasks(self.catalog)
        # The tasks are loaded anew: what an evaluation has read of its split is not at hand here.
        tasks, _ = bind_tasks(asked_tasks(recipe, names), self.catalog, asked.options)
        named = recipe.evaluation_tasks(self.catalog)
        evaluated, _ = bind_tasks(asked_tasks(recipe, named), self.catalog, asked.options)
        style: Format = load_format(recipe.format, formats_of(tasks, self.catalog))
        used = list(dict.fromkeys(name for merge in ready.merges for name in recipe.inputs_of(merge)))
        trained = ready.trainings(used)
        limits = [record.settings.max_tokens for record in trained.values() if record is not None]
        max_tokens = max((limit for limit in limits if limit is not None), default=1024)
        with phase("rows to search on"):
            tokenizer = load_tokenizer(ready.base)
            held: list[HeldOutRows] = []
            for task in tasks:
                rows = held_out_rows(
                    task.in_format(style),
                    trained,
                    style,
                    tokenizer,
                    max_tokens=max_tokens,
                    wanted=recipe.spec.search.rows,
                    architecture=ready.base.architecture,
                )
                held.append(without_evaluated(rows, task, evaluated))
        n = min(recipe.spec.search.rows, *(len(one.rows) for one in held))
        for one in held:
            say(f"search: {one.task.name}: {min(n, len(one.rows))} of {len(one.rows):,} rows, {one.origin}")
        adapters = [folder for name in used if not is_whole_model(folder := ready.folders[name])]
        return Yardstick(ready.base, [one.first(n) for one in held], style, recipe, adapters)

    @contextlib.contextmanager
    def _journal(self, merge: str, plans: Sequence[MergePlan]) -> Iterator[Callable[..., Sequence[float]]]:
        """values(digest, what, places) -> a value for each item; those of a search that was cut off are there."""
        yard = self.yardstick
        identity = canonical_sha256([yard.identity, [self._digest(one) for one in plans]])[:12]
        journal = Journal(os.path.join(self.ready.asked.out, SEARCHES, f"{merge}-{identity}.jsonl"))
        if journal.damage:
            say(f"note: {journal.damage_said()}; what stood there is computed again")

        def measured(digest: str, what: MergePlan | str | None, places: range) -> list[float]:
            todo = [place for place in places if f"{digest}/{place}" not in journal.entries]
            if todo:
                put = self._put(what)
                with put as model:
                    for place, value in zip(todo, yard.measure(model, todo), strict=True):
                        journal.append(f"{digest}/{place}", value if math.isfinite(value) else None)
            found = [journal.entries[f"{digest}/{place}"] for place in places]
            return [math.nan if value is None else float(value) for value in found]

        try:
            if yard.by == "loss":
                # Each answer's loss is told by what the base's are, or the task with the longest answers would decide.
                yard.take_base(measured("base", None, range(len(yard.items))))
            yield lambda digest, what, places: yard.relative(measured(digest, what, places), places)
        finally:
            journal.close()

    @contextlib.contextmanager
    def _put(self, what: MergePlan | str | None) -> Iterator[LoadedModel]:
        loaded = self.yardstick.loaded
        if what is None:
            yield loaded
        elif isinstance(what, str):
            with folder_on(loaded, what, self.catalog) as model:
                yield model
        else:
            with result_on(loaded, what, self.catalog) as model:
                yield model

    def _digest(self, plan: MergePlan) -> str:
        inputs = [[one.name, self._sha256(one.path)] for one in plan.inputs]
        return canonical_sha256([{**plan.as_json(), "inputs": inputs, "base": None}])[:16]

    def _sha256(self, folder: str) -> str:
        if not is_whole_model(folder):
            return read_adapter(folder).sha256
        names = sorted(name for name in os.listdir(folder) if name.endswith(".safetensors"))
        return canonical_sha256([[name, file_sha256(os.path.join(folder, name))] for name in names])


def _chosen(one: Candidate) -> JsonObject:
    return {".".join(map(str, place)): value for place, value in one.chosen.items()}


def _round(found: Round, names: Sequence[str], yard: Yardstick) -> JsonObject:
    return {
        "rows": found.items,
        "standings": [
            {
                "candidate": names[one.candidate],
                yard.by: yard.shown(one.mean),
                **(
                    {"behind": one.behind, "behind_low": one.behind_low, "behind_high": one.behind_high}
                    if one.behind is not None
                    else {}
                ),
                **({"left": one.left} if one.left else {}),
            }
            for one in found.standings
        ],
    }


def _told(merge: str, found: Round, names: Sequence[str], yard: Yardstick) -> str:
    first = found.standings[0]
    gone = [f"{names[one.candidate]} ({yard.told(one.mean)})" for one in found.standings if one.left]
    said = f"search {merge}: {found.items} rows: {names[first.candidate]} leads ({yard.told(first.mean)})"
    more = f" and {len(gone) - _SHOWN} more" if len(gone) > _SHOWN else ""
    left = len(found.kept)
    return f"{said}, {left} left" + (f"; out: {', '.join(gone[:_SHOWN])}{more}" if gone else "")
