"""A student with an adapter of their own; the script is what they type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def scores(folder: Path) -> dict[str | None, dict[str, Any]]:
    """adapter -> its cell, from the leaderboard that the script wrote."""
    board = json.loads((folder / "slmbench-out" / "leaderboard" / "leaderboard.json").read_text(encoding="utf-8"))
    return {row.get("adapter"): row["scores"]["drawers/exact_match"] for row in board["rows"]}


def test_a_students_adapter_beats_the_base_and_goes_along(journey, tmp_path: Path) -> None:
    journey("student.sh", "nano", "plain", "60", "0.005", "40")
    found = scores(tmp_path / "journey")
    assert found["drawer"]["value"] > found[None]["ci_high"]
    page = (tmp_path / "journey" / "slmbench-out" / "leaderboard" / "index.html").read_text(encoding="utf-8")
    assert "number 20" not in page and "are kept out of this page" in page


@pytest.mark.realmodel
@pytest.mark.slow
def test_a_students_adapter_on_a_real_instruct_model(journey, tmp_path: Path, smollm2: str) -> None:
    journey("student.sh", smollm2, "chat", "12", "0.001", "40")
    found = scores(tmp_path / "journey")
    assert found["drawer"]["value"] > found[None]["ci_high"]
