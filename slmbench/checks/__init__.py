"""`slmbench check`: does a task do what it declares?"""

from slmbench.checks._check import ROWS_CHECKED, check_plugins, check_task, find_task
from slmbench.checks._golden import GOLDEN_ROWS
from slmbench.checks._report import CheckReport, Lengths

__all__ = ["GOLDEN_ROWS", "ROWS_CHECKED", "CheckReport", "Lengths", "check_plugins", "check_task", "find_task"]
