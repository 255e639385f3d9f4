"""`slmbench check`: does a task do what it declares?"""

from slmbench.checks._check import GOLDEN_ROWS, ROWS_CHECKED, check_task, find_task
from slmbench.checks._report import CheckReport, Lengths

__all__ = ["GOLDEN_ROWS", "ROWS_CHECKED", "CheckReport", "Lengths", "check_task", "find_task"]
