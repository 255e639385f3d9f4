"""Names are cheap to read, and each of them has a scorer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from slmbench.errors import UsageError
from slmbench.metrics import Scorer, load_metric, load_scorer, metric_headers, metric_names
from slmbench.values import Example, Output


def _modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_reading_the_names_imports_nothing_heavy() -> None:
    loaded = _modules_after("import slmbench.metrics as m; m.metric_headers()")
    assert not loaded & {"attr", "attrs", "evaluate", "torch", "datasets", "numpy", "rouge_score", "lm_eval"}


def test_listing_the_names_imports_nothing_heavy() -> None:
    loaded = _modules_after("import slmbench.metrics; slmbench.metrics.metric_names()")
    assert not loaded & {"attr", "attrs", "evaluate", "torch", "datasets", "numpy", "rouge_score", "lm_eval"}


def test_loading_the_scorers_imports_no_library_but_attrs() -> None:
    loaded = _modules_after("from slmbench.metrics import load_scorer; load_scorer('rouge'); load_scorer('bertscore')")
    assert "attr" in loaded
    assert not loaded & {"evaluate", "torch", "datasets", "numpy", "rouge_score", "nltk", "lm_eval", "transformers"}


LOWER = ("bits_per_byte", "repetition", "target_bits_per_byte")
"""Of which less is better."""


@pytest.mark.parametrize("name", metric_names())
def test_every_name_has_a_scorer_of_that_name(name: str) -> None:
    scorer = load_scorer(name)
    assert isinstance(scorer, Scorer)
    assert scorer.name == name
    assert scorer.higher_is_better == (name not in LOWER)


# bertscore needs weights: test_bertscore.py; the best of bits per byte is no 1: test_bits_per_byte.py,
# test_target_bits_per_byte.py; no gold answer has a best value of repetition: test_repetition.py.
@pytest.mark.parametrize("name", [name for name in metric_names() if name not in ("bertscore", "distinct", *LOWER)])
def test_score_returns_exactly_the_declared_values(name: str) -> None:
    scorer = load_scorer(name)
    answer = "I10, E11.9" if name == "codes_f1" else "so #### 18"
    example = Example(id="a", fields={}, answer=answer, choices=("no", "yes"), gold=1)
    scores = scorer.score(example, Output(text=answer, loglikelihoods=(-2.0, -1.0), verdicts=("passed",) * 10))
    assert scores == dict.fromkeys(scorer.values, 1.0)
    assert all(type(value) is float for value in scores.values())


def test_a_metric_is_listed_by_what_stands_at_its_definition() -> None:
    for header in metric_headers():
        scorer = load_scorer(header.name)
        assert scorer.version == header.version
        assert header.name == "pass@1" or scorer.description == header.summary


def test_no_two_metrics_share_a_values_name() -> None:
    values = [value for name in metric_names() for value in load_scorer(name).values]
    assert len(set(values)) == len(values)
    assert not any(character.isspace() for value in values for character in value)


@pytest.mark.parametrize("load", [load_scorer, load_metric])
def test_an_unknown_metric_is_told_the_nearest(load) -> None:
    with pytest.raises(UsageError, match=r"unknown metric 'exact_match/strickt'; did you mean 'exact_match/strict'\?"):
        load("exact_match/strickt")


def test_the_package_has_no_other_lazy_names() -> None:
    import slmbench.metrics

    with pytest.raises(AttributeError, match="no attribute 'Skorer'"):
        slmbench.metrics.Skorer  # noqa: B018
