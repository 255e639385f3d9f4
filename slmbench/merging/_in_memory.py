"""A merge that is tried and not kept: its tensors, one at a time, without a file of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from slmbench.catalog import Catalog
from slmbench.errors import UsageError
from slmbench.merging._checkpoints import Mapped
from slmbench.merging._inputs import open_sources
from slmbench.merging._plan import MergePlan, plan_problems
from slmbench.merging._tensors import load_method
from slmbench.merging._weights import TensorMerge
from slmbench.values import Tensor


def merged_tensors(plan: MergePlan, catalog: Catalog) -> Iterator[tuple[str, Tensor]]:
    """(name in the base's files, tensor) of all in a merged whole model that may differ from the base, as written.

    Raises what `merge` raises; nothing is written to the plan's folder.
    """
    method = load_method(plan.method, catalog)
    if problems := plan_problems(plan):
        raise UsageError("\n".join(f"merge {plan.name}: {said}" for said in problems))
    with Mapped() as mapped, tempfile.TemporaryDirectory() as folder:
        sources = open_sources(plan, catalog, mapped)
        work = TensorMerge(plan, method, sources, mapped, folder)
        if problems := work.problems():
            raise UsageError("\n".join(f"merge {plan.name}: {said}" for said in problems))
        yield from work.changed_tensors()
