"""Runs in, leaderboard out: checked records, intervals, ranks that the data supports, and pages that show the
samples."""

from __future__ import annotations

from slmbench.leaderboard._build import build_leaderboard
from slmbench.leaderboard._records import LoadedRuns, RunProblems, ScoredRun, load_runs, read_runs
from slmbench.leaderboard._routes import Routing, routings
from slmbench.leaderboard.table import Leaderboard
from slmbench.leaderboard.terminal import render_text
from slmbench.leaderboard.writers import write_leaderboard

__all__ = [
    "Leaderboard",
    "LoadedRuns",
    "Routing",
    "RunProblems",
    "ScoredRun",
    "build_leaderboard",
    "load_runs",
    "read_runs",
    "render_text",
    "routings",
    "write_leaderboard",
]
