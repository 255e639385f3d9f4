"""Runs in, leaderboard out: checked records, intervals, ranks that the data supports, and pages that show the
samples."""

from __future__ import annotations

from slmbench.leaderboard._audit import Audit, audit
from slmbench.leaderboard._beside_content import beside_content
from slmbench.leaderboard._build import build_leaderboard
from slmbench.leaderboard._conditions import conditions_of
from slmbench.leaderboard._loading import LoadedRuns, load_runs, read_runs
from slmbench.leaderboard._measures import Economies, measures_of
from slmbench.leaderboard._pooled import pool_of
from slmbench.leaderboard._published import set_beside
from slmbench.leaderboard._published_forms import beside_text
from slmbench.leaderboard._records import RunProblems, ScoredRun
from slmbench.leaderboard._routes import Routing, routings
from slmbench.leaderboard._rows import Who, rows_of
from slmbench.leaderboard._samples import read_samples, without_texts
from slmbench.leaderboard.table import BesideLine, Economy, Leaderboard
from slmbench.leaderboard.terminal import render_text
from slmbench.leaderboard.writers import write_leaderboard

__all__ = [
    "Audit",
    "BesideLine",
    "Economies",
    "Economy",
    "Leaderboard",
    "LoadedRuns",
    "Routing",
    "RunProblems",
    "ScoredRun",
    "Who",
    "audit",
    "beside_content",
    "beside_text",
    "build_leaderboard",
    "conditions_of",
    "load_runs",
    "measures_of",
    "pool_of",
    "read_runs",
    "read_samples",
    "render_text",
    "routings",
    "rows_of",
    "set_beside",
    "without_texts",
    "write_leaderboard",
]
