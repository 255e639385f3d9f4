"""What a Ray node's process does at an interrupt, without Ray."""

from __future__ import annotations

import _thread
import time

import pytest

from slmbench.interrupts import Interrupt, deferred
from slmbench.scheduling import _ray_node


def test_a_node_is_woken_again_unless_it_finishes_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ray_node, "WAKE_S", 0.05)
    noted = Interrupt()
    with pytest.raises(KeyboardInterrupt), _ray_node.interruptible(), _ray_node._woken(), deferred(noted, "step"):
        _thread.interrupt_main()  # As `ray.cancel` does.
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            time.sleep(0.01)
        finished = noted.asked
    assert finished == 1
    woken = 0
    with _ray_node.interruptible(), _ray_node._woken():
        for _ in range(2):
            try:
                if not woken:
                    _thread.interrupt_main()
                time.sleep(5)
            except KeyboardInterrupt:  # As an import that makes another error of it.
                woken += 1
    assert woken == 2
