"""A recipe over several settings: every combination trained and scored, quality set against cost."""

from slmbench.sweeps._grid import Axis, Point, axes_of, axis_of, points_of, seeds_of
from slmbench.sweeps._report import sweep_json, table_of, write_sweep
from slmbench.sweeps._run import Outcome, TrainedAdapter, run_point, run_sweep
from slmbench.sweeps._summary import COSTS, OF_ITEMS, Sweep, SweepColumn, SweepRow, summarise

__all__ = [
    "COSTS",
    "OF_ITEMS",
    "Axis",
    "Outcome",
    "Point",
    "Sweep",
    "SweepColumn",
    "SweepRow",
    "TrainedAdapter",
    "axes_of",
    "axis_of",
    "points_of",
    "run_point",
    "run_sweep",
    "seeds_of",
    "summarise",
    "sweep_json",
    "table_of",
    "write_sweep",
]
