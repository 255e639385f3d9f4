"""The installed wheel does without the checkout, and what the README shows runs: by tox alone, which installs one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import slmbench

TESTS = Path(__file__).resolve().parent


@pytest.mark.slow
@pytest.mark.parametrize("parts", [pytest.param(("--without-quickstart",), id="short"), pytest.param((), id="whole")])
def test_the_installed_command_works_away_from_the_checkout(tmp_path: Path, parts: tuple[str, ...]) -> None:
    if Path(slmbench.__file__).resolve().is_relative_to(TESTS.parent / "slmbench"):
        pytest.skip("this is the checkout's package; tox installs the wheel")
    done = subprocess.run(
        [sys.executable, str(TESTS / "installed.py"), str(tmp_path), *parts],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
