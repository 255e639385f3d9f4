"""Where things are kept."""

from __future__ import annotations

import os

import pytest

from slmbench.paths import cache_dir


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"SLMBENCH_CACHE": "/a/b", "XDG_CACHE_HOME": "/x"}, "/a/b"),
        ({"SLMBENCH_CACHE": "here"}, os.path.abspath("here")),
        ({"XDG_CACHE_HOME": "/x"}, "/x/slmbench"),
        ({"XDG_CACHE_HOME": "", "SLMBENCH_CACHE": ""}, "/home/me/.cache/slmbench"),
    ],
)
def test_cache_is_where_the_environment_says(monkeypatch, given, expected):
    for name in ("SLMBENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert cache_dir() == expected
