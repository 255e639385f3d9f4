"""Whether the tests of a code task pass its canonical solutions, and nothing that does no work."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence

from attrs import evolve

from slmbench.checks._findings import Findings, short
from slmbench.checks._formats import Written
from slmbench.errors import SlmbenchError, TrustError
from slmbench.sandbox import Program, Verdict, open_sandbox
from slmbench.task import Task, program_of

PROGRAM_ROWS = 20
"""Rows of a split whose programs are run; of the golden rows, all."""

TIMEOUT_S = 10.0


def check_programs(task: Task, rows: Sequence[Written], found: Findings) -> None:
    """Runs the gold answer of every row as each format reads it, an empty one, and one whose functions do nothing.

    All run in one go, each program once. Where no sandbox is to be had, a notice says so.
    """
    golds: list[tuple[Written, str, Program]] = []
    idle: list[tuple[Written, str, Program]] = []
    for row in rows:
        try:
            own = [
                (row, reading.format, _program(task, row, reading.text, fenced=reading.format != "plain"))
                for reading in row.readings
            ]
            idle.append((row, "an empty output", _program(task, row, "")))
        except SlmbenchError as error:
            message = str(error).split(": ", 1)[-1]
            found.of_row("program", found.document.problem(("code",), message), row.example.id)
            continue
        golds += own
        if own and (hollow := _hollow(own[0][2].code)) is not None:
            idle.append((row, "a program whose functions only `pass`", evolve(own[0][2], code=hollow)))
    programs = list(dict.fromkeys(program for _, _, program in golds + idle))
    try:
        verdicts = dict(zip(programs, open_sandbox().run(programs, timeout_s=TIMEOUT_S), strict=True))
    except TrustError as error:
        found.unchecked |= {scorer.name for scorer in task.scorers}
        found.note(f"its programs were not run: {error}")
        return
    _compare(golds, idle, verdicts, found)


def _program(task: Task, row: Written, text: str, *, fenced: bool = False) -> Program:
    program = program_of(task, row.example, text, fenced=fenced)
    # Formats differ in the last line break; the same program is to run once.
    return evolve(program, code=program.code.rstrip() + "\n")


def _compare(
    golds: Sequence[tuple[Written, str, Program]],
    idle: Sequence[tuple[Written, str, Program]],
    verdicts: dict[Program, Verdict],
    found: Findings,
) -> None:
    for row, style, program in golds:
        verdict = verdicts[program]
        if verdict.status != "passed":
            detail = f": {short(verdict.detail)}" if verdict.detail else ""
            if style == "plain":
                fault = found.document.problem(("code",), f"the canonical solution {verdict.status}{detail}")
                found.of_row("canonical", fault, row.example.id)
            else:
                found.of_format(style, ("code",), f"the canonical solution {verdict.status}{detail}", row.example.id)
    for row, what, program in idle:
        if verdicts[program].status == "passed":
            fault = found.document.problem(("code", "tests"), f"{what} passes the tests")
            found.of_row(what, fault, row.example.id)


def _hollow(code: str) -> str | None:
    """The program with `pass` for the body of every function; None where it has none, or is no Python."""
    try:
        with warnings.catch_warnings(action="ignore"):  # Of a backslash too many in somebody else's text.
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return None
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for function in functions:
        function.body = [ast.Pass()]
    return ast.unparse(tree) if functions else None
