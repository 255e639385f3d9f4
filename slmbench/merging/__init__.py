"""Several models or adapters of one base into one: methods, a file each, and what reads and writes their weights."""

from slmbench.merging._driver import MergeResult, merge, merge_problems
from slmbench.merging._in_memory import merged_tensors
from slmbench.merging._mergekit import mergekit_names
from slmbench.merging._parameters import check_inputs, check_parameters, is_stochastic, needs_base, parameters_of
from slmbench.merging._plan import MergeInput, MergePlan
from slmbench.merging._tensors import MergedTensor, load_method, merge_one, merge_tensors

__all__ = [
    "MergeInput",
    "MergePlan",
    "MergeResult",
    "MergedTensor",
    "check_inputs",
    "check_parameters",
    "is_stochastic",
    "load_method",
    "merge",
    "merge_one",
    "merge_problems",
    "merge_tensors",
    "merged_tensors",
    "mergekit_names",
    "needs_base",
    "parameters_of",
]
