"""HumanEval and MBPP: every reference solution passes, and an empty body never does.

The jails share the programs out among themselves.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from slmbench.sandbox import Program, Sandbox
from tests.sandbox.conftest import shared_out

pytestmark = pytest.mark.realdata


def records(*parts: str) -> list[dict[str, Any]]:
    path = Path(os.environ["SLMBENCH_DATA"]).joinpath(*parts)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def human_eval(body: str | None) -> list[Program]:
    return [
        Program(
            row["prompt"] + (row["canonical_solution"] if body is None else body),
            f"{row['test']}\ncheck({row['entry_point']})",
        )
        for row in records("human_eval", "test.jsonl")
    ]


def test_the_reference_solutions_of_humaneval_pass(jail: Sandbox) -> None:
    programs = human_eval(None)
    assert len(programs) == 164
    verdicts = jail.run(shared_out(jail, programs), timeout_s=30)
    assert [(i, v) for i, v in enumerate(verdicts) if v.status != "passed"] == []


def test_no_empty_body_passes_humaneval(jail: Sandbox) -> None:
    verdicts = jail.run(shared_out(jail, human_eval("    pass\n")), timeout_s=30)
    assert {v.status for v in verdicts} == {"failed"}


@pytest.mark.parametrize("split", ["prompt", "test", "validation", "train"])
def test_the_reference_solutions_of_mbpp_pass(split: str, jail: Sandbox) -> None:
    rows = shared_out(jail, records("mbpp", f"{split}.jsonl"))
    # What sets objects up needs the classes of the solution, and is as trusted as the asserts.
    programs = [Program(row["code"], "\n".join([row["test_setup_code"], *row["test_list"]])) for row in rows]
    verdicts = jail.run(programs, timeout_s=30)
    failed = [(row["task_id"], v) for row, v in zip(rows, verdicts, strict=True) if v.status != "passed"]
    assert failed == []


def test_mbpp_programs_that_set_their_objects_up_themselves_pass(jail: Sandbox) -> None:
    rows = [row for split in ("train", "test") for row in records("mbpp", f"{split}.jsonl") if row["test_setup_code"]]
    programs = [Program(f"{row['code']}\n{row['test_setup_code']}", "\n".join(row["test_list"])) for row in rows]
    assert [v.status for v in jail.run(programs, timeout_s=30)] == ["passed"] * len(rows) != []
