"""A run that ends as soon as it is decided: items in a random order, compared one by one with another run's."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from attrs import field, frozen

from slmbench.console import duration, phase, say
from slmbench.errors import SlmbenchError
from slmbench.evaluation._harness import FILTER
from slmbench.evaluation._identity import TaskRun, item_digests, prompts_digest
from slmbench.runs import (
    MEAN_TOLERANCE,
    Pool,
    Run,
    StoppedPart,
    canonical_sha256,
    finished_run,
    read_record,
    stopped_digits,
    stopped_key,
)
from slmbench.statistics.race import ALPHA, PairedRace, RaceState, threshold
from slmbench.values import Example, JsonObject

TELL_EVERY_S = 15.0
Ask = Callable[[Sequence[int]], JsonObject]
"""Places of items -> lm-eval's results of them."""


@frozen(eq=False)
class Opponent:
    """A finished run that a model is compared with item by item, in one metric.

    name: of its model, for people. format: how its prompts were written. folder: where it is. scores: item id -> its
    score. has: how many items of the random order it has itself, if it was stopped; None for all. seed: of that order.
    margin: a difference that doesn't matter. alpha: how often the verdict may be wrong.
    """

    name: str
    format: str
    run_id: str
    folder: str
    samples_sha256: str
    metric: str
    scores: Mapping[str, float] = field(repr=False)
    higher_is_better: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)
    has: int | None = None
    seed: int = 0
    margin: float | None = None
    alpha: float = ALPHA


@frozen(eq=False)
class Raced:
    """How a race ended. places: of its items among the task's examples, in the order of drawing."""

    race: PairedRace
    places: tuple[int, ...]
    results: JsonObject

    @property
    def state(self) -> RaceState:
        return self.race.state


def drawn(examples: Sequence[Example], seed: int) -> list[list[int]]:
    """The places of the examples in a random order, a draw each: an item, or all items of a cluster.

    The order is that of the digests of seed and id (or cluster), so it is the same for every model, on every machine,
    and of a part of the items it is the same, too.
    """
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, example in enumerate(examples):
        groups["item" if example.cluster is None else "cluster", example.cluster or example.id].append(place)

    def digest(group: tuple[str, str]) -> bytes:
        return hashlib.sha256("\0".join((str(seed), *group)).encode(errors="surrogatepass")).digest()

    return [groups[group] for group in sorted(groups, key=digest)]


def race(job: TaskRun, opponent: Opponent, ask: Ask, batch_items: Callable[[], int]) -> Raced:
    """Asks for items in random order, until it is decided who is better or none is left that both have.

    batch_items: how many are worth computing at once. Fewer are asked for at first, and never more than half of those
    before, but no fewer than a decision takes: what was computed beyond it stays in the journal.
    """
    draws, made, known = _start(job.examples, opponent)
    samples: list[JsonObject] = []
    places: list[int] = []
    told = time.monotonic()
    at, size = 0, 0
    while at < known and not made.state.decided:
        size = max(made.wins_needed(), min(at // 2, max(1, batch_items() // made.largest)))
        chunk = [place for draw in draws[at : min(at + size, known)] for place in draw]
        with phase(f"{job.task.name} {_short(made)}", told=False, heads=True):
            results = ask(chunk)
        logged = {sample["doc"]["index"]: sample for sample in results["samples"][job.task.name]}
        scores = {place: float(sample[opponent.metric]) for place, sample in logged.items()}
        _check_mean(job.task.name, opponent.metric, results, list(scores.values()))
        for draw in draws[at : min(at + size, known)]:
            ids = [job.examples[place].id for place in draw]
            made.add([opponent.scores[one] for one in ids], [scores[place] for place in draw])
            places += draw
            samples += [logged[place] for place in draw]
            at += 1
            if made.state.decided:
                break
        if not made.state.decided and time.monotonic() - told >= TELL_EVERY_S:
            told = time.monotonic()
            say(f"{job.task.name} {_short(made)}{_outlook(made)}")
    return Raced(made, tuple(places), {"samples": {job.task.name: samples}, "results": {}})


def replayed(job: TaskRun, opponent: Opponent, scores: Mapping[str, float]) -> Raced:
    """The race with answers that are there already: scores by item id."""
    draws, made, known = _start(job.examples, opponent)
    places: list[int] = []
    for draw in draws[:known]:
        ids = [job.examples[place].id for place in draw]
        places += draw
        if made.add([opponent.scores[one] for one in ids], [scores[one] for one in ids]).decided:
            break
    return Raced(made, tuple(places), {})


def stopped_part(job: TaskRun, opponent: Opponent, raced: Raced) -> StoppedPart:
    """What the record says of it."""
    state = raced.state
    low, high = raced.race.interval()
    return StoppedPart(
        n=state.n,
        total=len(job.examples),
        seed=opponent.seed,
        order_sha256=_order_sha256(job.examples, opponent.seed),
        metric=opponent.metric,
        against=opponent.run_id,
        against_sha256=opponent.samples_sha256,
        margin=opponent.margin,
        alpha=opponent.alpha,
        verdict=state.verdict,
        by=state.by,
        wins=state.wins,
        losses=state.losses,
        ties=state.ties,
        e_value=_e_value(state),
        p=state.p,
        difference=state.difference,
        ci_lo=low,
        ci_hi=high,
        whole=job.record["run_id"],
        whole_key=job.record["comparability_key"],
    )


def prefix_of(job: TaskRun, opponent: Opponent, places: Sequence[int]) -> TaskRun:
    """The run of these items alone, in the order of drawing, as a run of its own."""
    examples = [job.examples[place] for place in places]
    whole = job.record["run_id"]
    digits = stopped_digits(
        whole,
        opponent.run_id,
        opponent.samples_sha256,
        metric=opponent.metric,
        margin=opponent.margin,
        seed=opponent.seed,
        alpha=opponent.alpha,
    )
    run_id = f"{whole.rpartition('__')[0]}__{digits}"
    order = _order_sha256(job.examples, opponent.seed)
    changed = {
        "run_id": run_id,
        "dataset": job.record["dataset"] | item_digests(job.task, examples),
        "prompts_sha256": prompts_digest([job.requests[place] for place in places]),
        "comparability_key": stopped_key(job.record["comparability_key"], order, len(places)),
    }
    folder = os.path.join(os.path.dirname(job.folder), run_id)
    return TaskRun(job.task, job.examples, job.requests, folder, job.record | changed, job.remarks)


def kept_stopped(job: TaskRun, opponent: Opponent, pool_of: Callable[[str], Pool]) -> Run | None:
    """The run that this race ended with before, if it is there and whole."""
    draws = [place for draw in drawn(job.examples, opponent.seed) for place in draw]
    folder = prefix_of(job, opponent, ()).folder
    try:
        n = (read_record(folder).get("stopped") or {}).get("n", 0)
    except (FileNotFoundError, SlmbenchError):
        return None  # What is wrong with it is told where it is written again.
    return finished_run(folder, pool_of, prefix_of(job, opponent, draws[:n]).record) if n else None


def tell_verdict(
    who: str, format: str, task: str, opponent: Opponent, part: StoppedPart, seconds: float | None
) -> None:
    """Says how a race came out. format: of our prompts. seconds: that its items took; None if that isn't known."""
    theirs = opponent.name
    if theirs == who:
        other = opponent.format != format
        who, theirs = (f"{who} ({format})", f"{who} ({opponent.format})") if other else (who, f"run {opponent.run_id}")
    n, total = f"{part.n:,}", f"{part.total:,}"
    said = {
        "better": f"is better than {theirs}",
        "worse": f"is worse than {theirs}",
        "equal": f"and {theirs} are practically equal, within {part.margin or 0:g}",
        "undecided": f"and {theirs}: undecided",
    }[part.verdict]
    on = f"after {n} of {total} items" if part.n < part.total else f"on all {total} items"
    counts = f"{_counted(part.wins, part.losses)}, {part.ties:,} {'tie' if part.ties == 1 else 'ties'} in {part.metric}"
    say(f"{task}: {who} {said}, {on}: {counts}; E = {part.e_value:.3g} ({threshold(part.alpha):.0f} decides)")
    by_all = ", and all items together decide" if part.by == "all items" else ""
    say(
        f"{task}: difference {part.difference:+.3f}, {100 * (1 - part.alpha):.4g}% interval {part.ci_lo:+.3f} to "
        f"{part.ci_hi:+.3f} wherever it stops; p = {part.p:.2g}{by_all}"
    )
    if part.n < part.total:
        left = part.total - part.n
        spared = f", about {duration(seconds / part.n * left)}" if seconds else ""
        flags = "--against and --until" if part.margin is None else "--against, --until and --margin"
        say(
            f"{task}: {left:,} items not asked{spared}; the same command without {flags} goes on to the whole set, and "
            "asks only these"
        )


def _start(examples: Sequence[Example], opponent: Opponent) -> tuple[list[list[int]], PairedRace, int]:
    """(all draws, the race, how many of the draws both have)."""
    draws = drawn(examples, opponent.seed)
    made = PairedRace(
        len(examples),
        higher_is_better=opponent.higher_is_better,
        bounds=opponent.bounds,
        draws=len(draws),
        largest=max(map(len, draws)),
        margin=opponent.margin,
        alpha=opponent.alpha,
    )
    known = len(draws)
    if opponent.has is not None:
        known, n = 0, 0
        while known < len(draws) and n + len(draws[known]) <= opponent.has:
            n += len(draws[known])
            known += 1
    return draws, made, known


def _order_sha256(examples: Sequence[Example], seed: int) -> str:
    return canonical_sha256([examples[place].id for draw in drawn(examples, seed) for place in draw])


def _check_mean(task: str, metric: str, results: JsonObject, scores: Sequence[float]) -> None:
    theirs, ours = results["results"][task][f"{metric},{FILTER}"], math.fsum(scores) / len(scores)
    if abs(theirs - ours) > MEAN_TOLERANCE * max(1.0, abs(ours)):
        raise SlmbenchError(f"{task}/{metric}: lm-eval says {theirs}, the samples say {ours}")


def _short(made: PairedRace) -> str:
    state = made.state
    if not state.n:
        return f"0 of {made.total:,}"
    return f"{state.n:,} of {made.total:,}: {_counted(state.wins, state.losses)}, E {_e_value(state):.2g}"


def _counted(wins: int, losses: int) -> str:
    return f"{wins:,} {'win' if wins == 1 else 'wins'}, {losses:,} {'loss' if losses == 1 else 'losses'}"


def _e_value(state: RaceState) -> float:
    return math.exp(min(state.log_e, 700.0))


def _outlook(made: PairedRace) -> str:
    """What it would take."""
    least = "" if made.signs_only else "at least "
    said = f"; {threshold(made.alpha):.0f} decides: {least}{made.wins_needed():,} more in a row"
    if (left := made.items_left()) is not None:
        said += f", or about {left:,} items as it goes"
    if (share := made.share_of_all()) is not None:
        said += f"; on all items it will score {share[0]:.3f} to {share[1]:.3f}"
    return said
