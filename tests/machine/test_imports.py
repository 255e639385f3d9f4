"""Python's garbage is looked for as before when large packages have been imported."""

from __future__ import annotations

import gc
import threading

import pytest

from slmbench.machine import large_imports


def test_garbage_is_looked_for_again_after_the_imports_however_they_end() -> None:
    assert gc.isenabled()
    with large_imports():
        assert not gc.isenabled()
        with large_imports():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), large_imports():
        raise ImportError("no such package")
    assert gc.isenabled()


def test_who_keeps_it_off_finds_it_off() -> None:
    gc.disable()
    try:
        with large_imports():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_two_threads_that_import_at_once_leave_it_on() -> None:
    inside, out = threading.Event(), threading.Event()

    def other() -> None:
        with large_imports():
            inside.set()
            out.wait(20)

    thread = threading.Thread(target=other)
    with large_imports():
        thread.start()
        assert inside.wait(20)
    out.set()
    thread.join()
    assert gc.isenabled()
