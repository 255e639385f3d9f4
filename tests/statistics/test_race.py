"""A race of two models: what decides it, and when."""

import math
import random

import pytest

from slmbench.statistics.race import PairedRace
from slmbench.statistics.sequential import log_e_values


def run(race, pairs):
    for theirs, ours in pairs:
        if race.add(theirs, ours).decided:
            break
    return race.state


def drawn(seed, n, theirs, ours):
    draw = random.Random(seed)
    return [([float(draw.random() < theirs)], [float(draw.random() < ours)]) for _ in range(n)]


def test_a_better_model_is_told_after_few_items_and_the_sign_is_its():
    race = PairedRace(1319)
    state = run(race, drawn(0, 1319, 0.33, 0.65))
    assert (state.verdict, state.by) == ("better", "sequence")
    assert state.n < 100
    assert state.log_e == pytest.approx(float(log_e_values(state.wins, state.losses)))
    assert state.log_e >= math.log(25) and state.p == pytest.approx(math.exp(-state.log_e) / 0.8)
    assert state.wins + state.losses + state.ties == state.n
    low, high = race.interval()
    assert 0 < low <= state.difference <= high
    assert run(PairedRace(1319, higher_is_better=False), drawn(0, 1319, 0.33, 0.65)).verdict == "worse"


def test_two_that_are_the_same_stay_undecided_to_the_end():
    state = run(PairedRace(40), [([1.0], [1.0])] * 40)
    assert (state.verdict, state.by, state.n, state.p) == ("undecided", "", 40, 1.0)


def test_all_items_are_tested_once_more_at_the_end():
    lost, won = ([1.0], [0.0]), ([0.0], [1.0])
    # Eight wins to none: an e-value of 19, and a mid-p of .004 at the end.
    race = PairedRace(20)
    state = run(race, [won] * 8 + [([1.0], [1.0])] * 12)
    assert (state.by, state.p) == ("all items", 0.05) and race.interval()[0] > 0
    assert run(PairedRace(21), [won] * 8 + [([1.0], [1.0])] * 12).verdict == "undecided"
    # Eleven to three: 2, and .03, which is more than the 1% that is left for the end.
    assert run(PairedRace(14), [lost, won] * 3 + [won] * 8).verdict == "undecided"


def test_practically_equal_is_told_within_the_margin_alone():
    pairs = [([0.5], [0.5 + 0.02 * (-1) ** i]) for i in range(3000)]
    race = PairedRace(3000, margin=0.05)
    state = run(race, pairs)
    assert (state.verdict, state.by) == ("equal", "margin")
    assert state.n < 800
    low, high = race.interval()
    assert -0.05 < low <= 0.0 <= high < 0.05
    assert run(PairedRace(800), pairs[:800]).verdict == "undecided"


def test_practically_equal_is_told_by_all_items_too():
    pairs = [([1.0], [1.0])] * 360 + [([1.0], [0.0]), ([0.0], [1.0])] * 20
    random.Random(0).shuffle(pairs)
    state = run(PairedRace(400, margin=0.05), pairs)
    assert (state.verdict, state.by) == ("equal", "all items")
    assert run(PairedRace(400, margin=0.001), pairs).verdict == "undecided"


def test_a_cluster_is_one_draw_and_its_differences_add_up():
    race = PairedRace(12, draws=5, largest=4)
    state = race.add([0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0])
    assert (state.n, state.wins, state.losses, state.ties) == (4, 2, 1, 1)
    # Five such clusters would sum to 5, of 12 items.
    assert state.difference == pytest.approx(5 / 12)
    assert not race.signs_only
    with pytest.raises(ValueError, match="don't fit"):
        race.add([0.0] * 5, [1.0] * 5)


def test_what_it_would_take_is_what_it_takes():
    race = PairedRace(1000)
    race.add([1.0], [0.0])
    wanted = race.wins_needed()
    for _ in range(wanted - 1):
        assert not race.add([1.0], [0.0]).decided
    assert race.wins_needed() == 1
    assert race.items_left() is not None
    assert race.add([1.0], [0.0]).verdict == "worse"
    with pytest.raises(ValueError, match="don't fit"):
        race.add([1.0], [1.0])


def test_the_share_of_all_items_is_one_point_at_the_end():
    race = PairedRace(4)
    for ours in (1.0, 1.0, 0.0, 1.0):
        race.add([1.0], [ours])
    assert race.share_of_all() == (0.75, 0.75)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bounds": (0.0, math.inf)}, "bounds are"),
        ({"margin": 1.5}, "margin is 1.5"),
        ({"alpha": 0.0}, "alpha is 0"),
    ],
)
def test_what_no_race_can_have_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        PairedRace(10, **given)


@pytest.mark.parametrize(("n", "verdict"), [(3, "undecided"), (200, "undecided"), (240, "equal")])
def test_items_that_all_tie_show_no_more_than_how_many_they_are(n: int, verdict: str) -> None:
    # By chance alone, 200 items tie in 1.8% of cases if the models differ on 2% of all; 1% is the most.
    race = PairedRace(n, margin=0.02)
    for _ in range(n):
        race.add([1.0], [1.0])
    assert race.state.verdict == verdict
    assert (0.98**n <= 0.01) == (verdict == "equal")


SCORES = {
    "right or wrong": [0.0, 0.0, 0.0, 1.0],
    "thirds": [0.0, 1 / 3, 2 / 3, 1.0],
    "any": [0.0, 0.1, 0.123456, 0.7, 0.99],
}


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize(("margin", "alpha"), [(None, 0.05), (0.2, 0.01)])
@pytest.mark.parametrize("largest", [1, 3])
def test_what_decides_is_what_is_shown(kind: str, margin: float | None, alpha: float, largest: int) -> None:
    draw, verdicts = random.Random(0), set()
    for table in range(12):
        sizes = [draw.randint(1, largest) for _ in range(draw.choice([1, 6, 40, 90]))]
        race = PairedRace(sum(sizes), draws=len(sizes), largest=max(sizes), margin=margin, alpha=alpha)
        better = draw.choice([0.0, 0.0, 0.3, 0.6])
        for size in sizes:
            theirs = draw.choices(SCORES[kind], k=size)
            ours = [1.0 if draw.random() < better else one if margin else draw.choice(SCORES[kind]) for one in theirs]
            state = race.add(theirs, ours)
            if state.decided or draw.random() < 0.1 or state.n == race.total:
                low, high = race.interval()
                expected = "better" if low > 0 else "worse" if high < 0 else "undecided"
                if margin is not None and expected == "undecided" and -margin <= low and high <= margin:
                    expected = "equal"
                assert state.verdict == expected, (table, state, low, high)
                assert (state.p <= alpha) == (state.verdict in ("better", "worse"))
                assert low <= state.difference <= high
            if state.decided:
                break
        verdicts.add(state.verdict)
    assert verdicts >= {"better", "undecided" if margin is None or largest > 1 else "equal"}, verdicts
