"""Whether to ask the hub: its own client asks an unreachable one six times over, which takes half a minute."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextvars import ContextVar

PROBE_S = 5.0
REMEMBERED_S = 60.0
_answered: dict[str, tuple[float, bool]] = {}
_STAYS_OFFLINE: ContextVar[bool] = ContextVar("slmbench_stays_offline", default=False)


def hub_is_offline() -> bool:
    """Whether no network is asked for: by `HF_HUB_OFFLINE` or `HF_DATASETS_OFFLINE`, or by `staying_offline`."""
    true = {"1", "true", "yes", "on"}
    asked = (os.environ.get(name, "").lower() in true for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"))
    return _STAYS_OFFLINE.get() or any(asked)


@contextlib.contextmanager
def staying_offline() -> Iterator[None]:
    """For the length of the block nothing is asked of a network, whatever the environment says."""
    token = _STAYS_OFFLINE.set(True)
    try:
        yield
    finally:
        _STAYS_OFFLINE.reset(token)


def use_cache_alone() -> bool:
    """Whether only what is on this machine is to be had: asked for, or the hub doesn't answer."""
    return hub_is_offline() or not hub_answers()


def hub_answers() -> bool:
    """Whether the hub (`HF_ENDPOINT`) answers one request within some seconds; the answer holds for a minute."""
    from huggingface_hub import constants, get_session

    asked_at, answers = _answered.get(constants.ENDPOINT, (0.0, False))
    if asked_at and time.monotonic() - asked_at < REMEMBERED_S:
        return answers
    try:
        get_session().head(constants.ENDPOINT, timeout=PROBE_S)
        answers = True
    except Exception:  # requests and httpx errors, by the client's version; all say the same here.
        answers = False
    _answered[constants.ENDPOINT] = (time.monotonic(), answers)
    return answers
