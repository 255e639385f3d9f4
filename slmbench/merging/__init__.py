"""Several models or adapters of one base into one: methods, a file each, and what reads and writes their weights."""

from slmbench.merging._driver import MergeResult, merge
from slmbench.merging._plan import MergeInput, MergePlan

__all__ = ["MergeInput", "MergePlan", "MergeResult", "merge"]
