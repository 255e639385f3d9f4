"""slmbench: declare a task once; train on it, evaluate on it, rank on it.

The names below are the public ones; each is imported when it is first used, so that `import slmbench` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slmbench.catalog import Catalog, default_catalog
    from slmbench.errors import SlmbenchError
    from slmbench.formats import load_format
    from slmbench.merging import merge_tensors
    from slmbench.metrics import load_metric, pass_at_k
    from slmbench.registry import engine, format, loader, merge_method, metric
    from slmbench.runs import Run
    from slmbench.task import Task, load_task
    from slmbench.values import Example, Output, Prompt
    from slmbench.workflow.compare import compare
    from slmbench.workflow.evaluate import evaluate
    from slmbench.workflow.score import score

_HOMES = {
    "Catalog": "slmbench.catalog",
    "Example": "slmbench.values",
    "Output": "slmbench.values",
    "Prompt": "slmbench.values",
    "Run": "slmbench.runs",
    "SlmbenchError": "slmbench.errors",
    "Task": "slmbench.task",
    "compare": "slmbench.workflow.compare",
    "default_catalog": "slmbench.catalog",
    "engine": "slmbench.registry",
    "evaluate": "slmbench.workflow.evaluate",
    "format": "slmbench.registry",
    "load_format": "slmbench.formats",
    "load_metric": "slmbench.metrics",
    "load_task": "slmbench.task",
    "loader": "slmbench.registry",
    "merge_method": "slmbench.registry",
    "merge_tensors": "slmbench.merging",
    "metric": "slmbench.registry",
    "pass_at_k": "slmbench.metrics",
    "score": "slmbench.workflow.score",
}
__all__ = [
    "Catalog",
    "Example",
    "Output",
    "Prompt",
    "Run",
    "SlmbenchError",
    "Task",
    "compare",
    "default_catalog",
    "engine",
    "evaluate",
    "format",
    "load_format",
    "load_metric",
    "load_task",
    "loader",
    "merge_method",
    "merge_tensors",
    "metric",
    "pass_at_k",
    "runs",
    "score",
]


def __getattr__(name: str) -> Any:
    if name == "runs":  # The package itself, which can be called.
        import slmbench.runs

        return slmbench.runs
    if name not in _HOMES:
        raise AttributeError(f"module 'slmbench' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
