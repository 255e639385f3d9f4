"""`slmbench check`: does a task do what it declares?"""

from slmbench.checks._check import GOLDEN_ROWS, ROWS_CHECKED, CheckReport, check_task, find_task

__all__ = ["GOLDEN_ROWS", "ROWS_CHECKED", "CheckReport", "check_task", "find_task"]
