"""Whether the tests of a code task pass its canonical solutions, and nothing that does no work."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence

from attrs import evolve, frozen

from slmbench.checks._findings import Findings, short
from slmbench.checks._formats import Written, until_stop
from slmbench.errors import SlmbenchError, TrustError
from slmbench.formats import FormatFault, load_format
from slmbench.sandbox import Program, Verdict, open_sandbox
from slmbench.task import Task, program_of
from slmbench.values import Example, Target

PROGRAM_ROWS = 20
"""Rows of a split whose programs are run; of the golden rows, all."""

SPELLED_ROWS = 5
"""Rows whose solution is run in the spellings of chat models, too."""

TIMEOUT_S = 10.0


@frozen
class _Spelling:
    """A format, and how the solution was written in it; '' for bare."""

    format: str
    how: str = ""


def check_programs(task: Task, rows: Sequence[Written], found: Findings) -> None:
    """Runs the gold answer of every row as each format reads it, an empty one, and one whose functions do nothing.

    All run in one go, each program once. Where no sandbox is to be had, a notice says so.
    """
    golds: list[tuple[Written, _Spelling, Program]] = []
    idle: list[tuple[Written, str, Program]] = []
    for number, row in enumerate(rows):
        try:
            own = [
                (row, what, program)
                for reading in row.readings
                for what, program in _gold_programs(
                    task, row.example, reading.format, reading.text, spelled=number < SPELLED_ROWS
                )
            ]
            idle.append((row, "an empty output", _tidy(program_of(task, row.example, ""))))
        except (SlmbenchError, FormatFault) as error:
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


def _gold_programs(
    task: Task, example: Example, format: str, text: str, *, spelled: bool
) -> Iterator[tuple[_Spelling, Program]]:
    """The programs of the canonical solution as an output in a format may spell it: bare, and as chat models do.

    Each passes through what an output passes through: written, cut at the stop strings, read.
    """
    style = load_format(format, task.plugins)
    bound = task.in_format(style)
    fenced = style.fenced
    yield _Spelling(format), _tidy(program_of(bound, example, text, fenced=fenced))
    for spelling, answer in _spellings(task, example) if fenced and spelled else ():
        cut, stopped_by = until_stop(style.write(Target(answer)), style.stop(bound.stop))
        after = f", cut by the stop string {stopped_by!r}" if stopped_by else ""
        read = style.read(cut, False)
        yield _Spelling(format, f"{spelling}{after}"), _tidy(program_of(bound, example, read, fenced=True))


def _spellings(task: Task, example: Example) -> Iterator[tuple[str, str]]:
    """(how, the canonical solution so written): whole functions, with what chat models put around them."""
    whole = program_of(task, example, task.answer(example)).code.strip("\n")
    yield "in a fence", f"```python\n{whole}\n```"
    yield "in a fence, with an import before it", f"```python\nimport math\n\n{whole}\n```"
    yield "in a fence, with prose before and after it", f"Here it is:\n\n```python\n{whole}\n```\n\nIt works."
    yield "without a fence, with an import before it", f"import math\n\n\n{whole}\n"
    yield "without a fence, with prose before and after it", f"Here it is:\n\n{whole}\n\nIt works as asked.\n"


def _tidy(program: Program) -> Program:
    # Formats differ in the last line break; the same program is to run once.
    return evolve(program, code=program.code.rstrip() + "\n")


def _compare(
    golds: Sequence[tuple[Written, _Spelling, Program]],
    idle: Sequence[tuple[Written, str, Program]],
    verdicts: dict[Program, Verdict],
    found: Findings,
) -> None:
    wrong: set[str] = set()  # In one format already: how else it may be spelt tells nothing more.
    for row, style, program in golds:
        verdict = verdicts[program]
        if verdict.status != "passed" and not (style.how and row.example.id in wrong):
            wrong.add(row.example.id)
            detail = f": {short(verdict.detail)}" if verdict.detail else ""
            said = f"the canonical solution {style.how}{' ' if style.how else ''}{verdict.status}{detail}"
            if style.format == "plain":
                found.of_row("canonical", found.document.problem(("code",), said), row.example.id)
            else:
                found.of_format(style.format, ("code",), said, row.example.id)
    for row, what, program in idle:
        if verdicts[program].status == "passed":
            fault = found.document.problem(("code", "tests"), f"{what} passes the tests")
            found.of_row(what, fault, row.example.id)


def _hollow(code: str) -> str | None:
    """The program with `pass` for the body of every function; None if it has none, or is not Python."""
    try:
        with warnings.catch_warnings(action="ignore"):  # Of a backslash too many in somebody else's text.
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return None
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for function in functions:
        function.body = [ast.Pass()]
    return ast.unparse(tree) if functions else None
