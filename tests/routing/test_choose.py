"""What validation rows choose: the threshold, by score where there is one, and the head."""

from __future__ import annotations

import numpy as np
import pytest

from slmbench.routing._choose import choose_head, choose_threshold


def test_by_score_the_base_keeps_what_it_answers_better():
    # The adapter is worse than the base where the router is unsure of it.
    known = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.45, 0.55]])
    of_base, of_adapters = np.array([0.2, 0.2, 0.9, 0.9]), np.array([[0.8, 0], [0.7, 0], [0.3, 0], [0, 0.1]])
    made = choose_threshold(known, [0, 0, 0, 1], np.zeros((0, 2)), (of_base, of_adapters))
    assert 0.6 < made.value < 0.8 and made.by == "score"
    assert made.reached == pytest.approx((0.8 + 0.7 + 0.9 + 0.9) / 4) and made.to_base == 0.5


def test_by_score_adapters_that_are_always_better_always_answer():
    known = np.array([[0.9, 0.1], [0.6, 0.4]])
    made = choose_threshold(known, [0, 0], np.array([[0.55, 0.45]]), (np.zeros(2), np.ones((2, 2))))
    assert made.to_base == 0 and made.reached == 1.0
    # Nothing is lost by it, so that the unknown text goes to the base.
    assert 0.55 < made.value < 0.6 and made.false_routes == 0


def test_without_scores_unknown_texts_go_to_the_base_as_long_as_known_ones_stay():
    rng = np.random.default_rng(0)
    top = np.concatenate([rng.uniform(0.8, 1.0, 95), rng.uniform(0.3, 0.5, 5)])
    known = np.stack([top, 1 - top], axis=1)
    known[-5:] = known[-5:, ::-1]
    stray = np.array([[0.6, 0.4]] * 10 + [[0.99, 0.01]] * 10)
    made = choose_threshold(known, [0] * 100, stray)
    assert 0.6 < made.value <= 0.81 and made.by == "false routes"
    assert made.false_routes == 0.5
    hopeless = choose_threshold(known, [0] * 100, np.array([[1.0, 0.0]] * 20))
    assert hopeless.value <= 0.5 + 1e-9


def test_tfidf_is_taken_where_it_leads_and_where_nothing_tells_the_two_apart():
    ours = [1.0] * 90 + [0.0] * 10
    assert choose_head({"tfidf": ours, "centroid": [0.0] * 50 + [1.0] * 50}).name == "tfidf"
    close = choose_head({"tfidf": ours, "centroid": [1.0] * 91 + [0.0] * 9})
    assert close.name == "tfidf" and "TF-IDF is as good as centroid" in close.why
    better = choose_head({"tfidf": ours, "centroid": [1.0] * 100, "logistic": [1.0] * 95 + [0.0] * 5})
    assert better.name == "centroid" and better.differences["centroid"].ci_low > 0
    assert choose_head({"tfidf": ours, "centroid": ours}).name == "tfidf"
