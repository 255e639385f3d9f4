"""The leaderboard as a value: columns, rows, cells with their uncertainty, and everything a reader has to be told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve, field, frozen

from slmbench.errors import Problem
from slmbench.leaderboard._endings import endings_of, notices_of
from slmbench.leaderboard._records import RunProblems, ScoredRun
from slmbench.leaderboard.texts import json_ready
from slmbench.runs import RECORD, MetricPart
from slmbench.statistics.estimate import estimate
from slmbench.statistics.significance import detectable_difference, rank_ranges
from slmbench.values import Estimate, JsonObject
from slmbench.visible import visible

SCHEMA = 1
NOT_COMPARABLE = "not comparable"
MIXED_WEIGHTS = "mixed weights"
FORCED_BASE = "forced base"

_RowKey = tuple[str, "str | None", "str | None"]


@frozen
class LeaderboardColumn:
    """One metric of one task. chance: the score of guessing. ranked: how many rows are ranked in it.

    detectable: the difference of two rows that a paired test finds with 80% power, None if fewer than two are
    ranked. in_process: whether some row's programs were examined by tests in their own process, which holds less.
    """

    key: str
    task: str
    metric: str
    higher_is_better: bool
    chance: float | None = None
    ranked: int = 0
    detectable: float | None = None
    in_process: bool = False


@frozen
class LeaderboardCell:
    """One score. rank_low and rank_high are None if the run may not be ranked; badges say why."""

    estimate: Estimate
    run_id: str
    badges: tuple[str, ...] = ()
    rank_low: int | None = None
    rank_high: int | None = None

    @property
    def leads(self) -> bool:
        """No other ranked row is significantly better."""
        return self.rank_low == 1


@frozen
class LeaderboardRow:
    """A model, or a model with an adapter. cells: by column key. cost: parameters, bytes, seconds, tokens.

    quantization: how the model's weights are held, None for whole ones. method: how the adapter was trained.
    """

    name: str
    model: str
    adapter: str | None
    badges: tuple[str, ...]
    cells: Mapping[str, LeaderboardCell]
    cost: Mapping[str, float | int | None]
    quantization: str | None = None
    method: str | None = None


@frozen
class Leaderboard:
    """What `leaderboard.json`, the CSV, the Markdown, the page and the terminal all show.

    rows: those that lead most columns first, then by mean lowest rank, then by name. There is no average over columns:
    it would change with the set of models and hide what can't be told apart. notices: what a reader has to know.
    endings: by run id, how many answers were cut at max_tokens, and how many a stop string ended.
    """

    suite: str | None
    columns: tuple[LeaderboardColumn, ...]
    rows: tuple[LeaderboardRow, ...]
    notices: tuple[str, ...] = field(default=())
    endings: Mapping[str, tuple[int, int]] = field(factory=dict)

    def as_json(self) -> JsonObject:
        """The content of leaderboard.json: no NaN, no lone surrogates; null where an interval can't be made."""
        content = json_ready(
            {
                "schema": SCHEMA,
                "suite": self.suite,
                "columns": [_column_json(column) for column in self.columns],
                "rows": [_row_json(row) for row in self.rows],
            }
        )
        assert isinstance(content, dict)
        return content


def build_leaderboard(
    runs: Sequence[ScoredRun], suite: str | None = None, tasks: Sequence[str] | None = None, notices: Iterable[str] = ()
) -> Leaderboard:
    """The table of checked runs (`load_runs`).

    suite: its name, shown as the title. tasks: only these, in this order (default: all, by name). notices: what loading
    had to say; kept in front of what building has to say.

    One run is shown per row and task. Where there are several, a full run goes before one with a limit or on sample
    rows, one that can be ranked with the others before one that can't, and then the newest goes first; a notice names
    the rest. Only runs with the same comparability_key are ranked together. Where a task has several, the key that most
    rows have is ranked (the one with the newest run if two have as many); the rest keep their score and interval,
    without a rank, badged `not comparable`. Scores and intervals are computed from the samples, never copied from the
    record. Adapters of one name and different weights are rows of their own, and so is a model whose weights are
    quantised. Raises RunProblems if comparable runs
    disagree about what a metric is.
    """
    said = list(notices)
    runs = _told_apart(runs)
    known = sorted({run.task for run in runs})
    order = known if tasks is None else list(dict.fromkeys(tasks))
    others = [task for task in known if task not in order]
    if others:
        said.append(f"not in this table: runs of {', '.join(visible(task) for task in others)}")
    columns: list[LeaderboardColumn] = []
    cells: dict[_RowKey, dict[str, LeaderboardCell]] = defaultdict(dict)
    shown: dict[_RowKey, list[ScoredRun]] = defaultdict(list)
    for task in order:
        of_task = [run for run in runs if run.task == task]
        if not of_task:
            said.append(f"{visible(task)}: no finished run")
            continue
        ranked_key = _ranked_key(of_task)
        chosen = _choose_runs(of_task, ranked_key, said)
        for row, run in chosen.items():
            shown[row].append(run)
        for column, by_row in _task_columns(task, chosen, ranked_key):
            columns.append(column)
            for row, cell in by_row.items():
                cells[row][column.key] = cell
    every = [run for picked in shown.values() for run in picked]
    said.extend(_unranked(every))
    said.extend(notices_of(every))
    said.extend(
        f"{visible(run.name)}: its adapter {visible(run.forced_base)}, and was put on this base, as requested"
        for run in every
        if run.forced_base
    )
    rows = [_row(key, cells[key], picked) for key, picked in shown.items()]
    return Leaderboard(
        suite, tuple(columns), tuple(sorted(rows, key=_row_order)), tuple(dict.fromkeys(said)), endings_of(every)
    )


def _row_key(run: ScoredRun) -> _RowKey:
    return run.model, run.quantization, run.adapter


def _told_apart(runs: Sequence[ScoredRun]) -> list[ScoredRun]:
    """The runs, adapters that share a name but not their weights named with the first digits of their digest."""
    digests: dict[tuple[str, str | None], set[Any]] = defaultdict(set)
    for run in runs:
        digests[(run.model, run.adapter)].add(_dig(run, ("adapter", "sha256")))
    named = []
    for run in runs:
        digest = _dig(run, ("adapter", "sha256"))
        if run.adapter is not None and digest and len(digests[(run.model, run.adapter)]) > 1:
            adapter = {**run.record["adapter"], "name": f"{run.adapter}@{str(digest)[:6]}"}
            run = evolve(run, record={**run.record, "adapter": adapter})
        named.append(run)
    return named


def _ranked_key(runs: Sequence[ScoredRun]) -> str | None:
    """The comparability key that is ranked: most rows, then the newest run. None if no run may be ranked."""
    groups: dict[str, list[ScoredRun]] = defaultdict(list)
    for run in runs:
        if not run.badges:
            groups[run.comparability_key].append(run)
    if not groups:
        return None

    return max(
        groups, key=lambda key: (len(set(map(_row_key, groups[key]))), max(run.created for run in groups[key]), key)
    )


def _choose_runs(runs: Sequence[ScoredRun], ranked_key: str | None, said: list[str]) -> dict[_RowKey, ScoredRun]:
    """The run that each row shows for one task; what was passed over, and what can't be ranked, goes to `said`."""
    by_row: dict[_RowKey, list[ScoredRun]] = defaultdict(list)
    for run in runs:
        by_row[_row_key(run)].append(run)
    chosen: dict[_RowKey, ScoredRun] = {}
    for row, candidates in by_row.items():
        candidates.sort(
            key=lambda run: (not run.badges, run.comparability_key == ranked_key, run.created, run.run_id), reverse=True
        )
        first, *rest = candidates
        chosen[row] = first
        where = f"{visible(first.name)} on {visible(first.task)}"
        if rest:
            passed = ", ".join(f"{visible(run.run_id)}{_differences(first, run)}" for run in rest)
            newest = max(run.created for run in candidates)
            reason = "the newest" if first.created == newest else "the newest that ranks"
            shown = f"{visible(first.run_id)} is shown ({reason}), not {passed}"
            said.append(f"{where}: {len(candidates)} finished runs; {shown}")
        if not first.badges and first.comparability_key != ranked_key:
            said.append(
                f"{where}: not ranked, its data, prompt, generation or scorer differ from those of the ranked runs "
                f"(key {visible(first.comparability_key[:12])}, ranked: {visible((ranked_key or '')[:12])})"
            )
    return chosen


def _unranked(runs: Sequence[ScoredRun]) -> list[str]:
    """Which runs are kept out of the ranks, and by which badges: each run once. Long lists are cut; every row and cell
    has its badge."""
    tasks_of: dict[tuple[str, ...], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run.badges:
            tasks_of[run.badges][visible(run.name)].append(visible(run.task))
    said = []
    for badges, by_name in sorted(tasks_of.items()):
        names_of: dict[str, list[str]] = defaultdict(list)
        for name, tasks in list(by_name.items())[:3]:
            names_of[", ".join(tasks)].append(name)
        parts = "; ".join(f"{', '.join(names)} on {tasks}" for tasks, names in names_of.items())
        more = f"; and {len(by_name) - 3} more models" if len(by_name) > 3 else ""
        said.append(f"not ranked ({', '.join(badges)}): {parts}{more}")
    return said


def _differences(first: ScoredRun, other: ScoredRun) -> str:
    """` (seed 1)`: how another run of the same cell differs in what a person would have set; empty if it doesn't."""
    parts = [badge for badge in other.badges if badge not in first.badges]
    for label, path in (
        ("seed", ("seed",)),
        ("training seed", ("adapter", "train_seed")),
        ("dtype", ("model", "dtype")),
        ("revision", ("model", "revision")),
        ("task version", ("task", "version")),
    ):
        mine, theirs = _dig(first, path), _dig(other, path)
        if mine != theirs:
            parts.append(f"{label} {visible(str(theirs))}")
    if _weights(first) != _weights(other):
        parts.append("other weights")
    if first.comparability_key != other.comparability_key and len(parts) == 0:
        parts.append(NOT_COMPARABLE)
    return f" ({', '.join(parts)})" if parts else ""


def _dig(run: ScoredRun, path: Sequence[str]) -> object:
    found: Any = run.record
    for part in path:
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _weights(run: ScoredRun) -> tuple[object, object]:
    return _dig(run, ("model", "weights_sha256")), _dig(run, ("adapter", "sha256"))


def _task_columns(
    task: str, chosen: Mapping[_RowKey, ScoredRun], ranked_key: str | None
) -> Iterable[tuple[LeaderboardColumn, dict[_RowKey, LeaderboardCell]]]:
    """Every metric of one task, in the order of the runs' records, with its cells."""
    ranked_first = sorted(chosen.items(), key=lambda entry: entry[1].comparability_key != ranked_key)
    names = list(dict.fromkeys(metric.name for _, run in ranked_first for metric in run.metrics))
    for name in names:
        have = {row: (run, _metric(run, name)) for row, run in ranked_first if name in run.scores}
        ranked = {row: run for row, (run, _) in have.items() if not run.badges and run.comparability_key == ranked_key}
        _check_agreement(name, [have[row] for row in ranked])
        _, told = next(iter(have.values()))
        scores = [run.scores[name] for run in ranked.values()]
        clusters = {item: label for run in ranked.values() for item, label in run.clusters.items()}
        ranges = dict(zip(ranked, rank_ranges(scores, told.higher_is_better, clusters), strict=True))
        by_row = {}
        for row, (run, _) in have.items():
            badges = run.badges or (() if row in ranked else (NOT_COMPARABLE,))
            cell = LeaderboardCell(_estimate(run, name), run.run_id, badges)
            if row in ranges:
                cell = evolve(cell, rank_low=ranges[row].low, rank_high=ranges[row].high)
            by_row[row] = cell
        smallest = detectable_difference(scores, clusters)
        column = LeaderboardColumn(
            f"{task}/{name}",
            task,
            name,
            told.higher_is_better,
            told.chance,
            len(ranked),
            smallest,
            any(run.examined_in_process for run, _ in have.values()),
        )
        yield column, by_row


def _metric(run: ScoredRun, name: str) -> MetricPart:
    return next(metric for metric in run.metrics if metric.name == name)


def _check_agreement(name: str, ranked: Sequence[tuple[ScoredRun, MetricPart]]) -> None:
    """Runs with one key have one scorer; if they don't agree which way is up, a record was edited."""
    directions = {metric.higher_is_better for _, metric in ranked}
    if len(directions) > 1:
        raise RunProblems(
            [
                Problem(str(run.folder / RECORD), 0, 0, f"{name!r}: higher_is_better is {metric.higher_is_better}")
                for run, metric in ranked
            ]
        )


def _estimate(run: ScoredRun, name: str) -> Estimate:
    if name in run.pooled:
        return run.pooled[name]
    scores = run.scores[name]
    return estimate(list(scores.values()), [run.clusters[item] for item in scores], _metric(run, name).bounds)


def _row(key: _RowKey, cells: Mapping[str, LeaderboardCell], runs: Sequence[ScoredRun]) -> LeaderboardRow:
    model, quantization, adapter = key
    badges = list(dict.fromkeys(badge for cell in cells.values() for badge in cell.badges))
    if len({_weights(run) for run in runs}) > 1:
        badges.append(MIXED_WEIGHTS)
    if any(run.forced_base for run in runs):  # Ranked all the same: it is what this base and this adapter score.
        badges.append(FORCED_BASE)
    method = max(runs, key=lambda run: run.created).method
    return LeaderboardRow(runs[0].name, model, adapter, tuple(badges), dict(cells), _cost(runs), quantization, method)


def _cost(runs: Sequence[ScoredRun]) -> dict[str, float | int | None]:
    """What the row's shown runs took: seconds and tokens summed over them, memory the largest of them.

    Runs of one row may have different adapters under one name (`mixed weights`); the newest run's sizes are given.
    """
    newest = max(runs, key=lambda run: run.created)

    def sizes(*path: str) -> float | int | None:
        return _number(_dig(newest, path))

    def costs(name: str) -> list[float | int]:
        numbers = (_number(_dig(run, ("cost", name))) for run in runs)
        return [number for number in numbers if number is not None]

    return {
        "parameters": sizes("model", "parameters"),
        "adapter_bytes": sizes("adapter", "bytes"),
        "adapter_parameters": sizes("adapter", "parameters"),
        "train_s": sizes("adapter", "train_s"),
        "seconds": sum(costs("seconds")) if costs("seconds") else None,
        "ram_peak_B": max(costs("ram_peak_B"), default=None),
        "tokens_in": sum(costs("tokens_in")) if costs("tokens_in") else None,
        "tokens_out": sum(costs("tokens_out")) if costs("tokens_out") else None,
    }


def _number(value: object) -> float | int | None:
    """value where it is a number that a cost can be: 0 or more and finite; None otherwise."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e18:
        return value
    return None


def _row_order(row: LeaderboardRow) -> tuple[object, ...]:
    lows = [cell.rank_low for cell in row.cells.values() if cell.rank_low is not None]
    led = sum(1 for low in lows if low == 1)
    return (-led, sum(lows) / len(lows) if lows else float("inf"), row.name, row.model)


def _column_json(column: LeaderboardColumn) -> JsonObject:
    content: dict[str, Any] = {
        "key": column.key,
        "task": column.task,
        "metric": column.metric,
        "higher_is_better": column.higher_is_better,
    }
    if column.chance is not None:
        content["chance"] = column.chance
    if column.in_process:
        content["in_process"] = True
    return content


def _row_json(row: LeaderboardRow) -> JsonObject:
    content: dict[str, Any] = {"name": row.name, "model": row.model}
    if row.adapter is not None:
        content["adapter"] = row.adapter
    content |= {key: value for key in ("quantization", "method") if (value := getattr(row, key)) is not None}
    content["badges"] = list(row.badges)
    content["scores"] = {key: _cell_json(cell) for key, cell in row.cells.items()}
    content["cost"] = dict(row.cost)
    return content


def _cell_json(cell: LeaderboardCell) -> JsonObject:
    made = cell.estimate
    known = made.method != "none"
    content: dict[str, Any] = {
        "value": made.value,
        "stderr": made.stderr if known else None,
        "ci_low": made.ci_low if known else None,
        "ci_high": made.ci_high if known else None,
        "n": made.n,
    }
    if cell.rank_low is not None:
        content["rank_low"] = cell.rank_low
        content["rank_high"] = cell.rank_high
    content["run_id"] = cell.run_id
    return content
