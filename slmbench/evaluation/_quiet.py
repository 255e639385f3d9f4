"""lm-eval 0.4.13 without what it prints and collects on the side: its bars, a `git` call, its look at the machine.

Our runs record code, packages and hardware themselves. Held to that one version by the package's requirement.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet_harness() -> Iterator[None]:
    """For the length of the block, lm-eval draws no bars of its own and asks the machine nothing."""
    import lm_eval.api.task
    import lm_eval.evaluator

    replaced: list[tuple[Any, str, Any]] = [
        (lm_eval.api.task, "tqdm", lambda iterable, *_, **__: iterable),
        (lm_eval.evaluator, "get_git_commit_hash", lambda: None),
        (lm_eval.evaluator, "add_env_info", lambda storage: None),
    ]
    kept = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    try:
        for module, name, value in replaced:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)
