"""Problems as a check finds them: each at its place, once, however many rows show it."""

from __future__ import annotations

import re

from slmbench.errors import DeclarationError, Problem, SlmbenchError
from slmbench.paths import shown
from slmbench.yamlfile import Document, Location

_PLACE = re.compile(
    r"(?P<path>[^\n]+?\.(?:py|jsonl|parquet|toon))(?::(?P<line>\d+))?(?::(?P<column>\d+))?: (?P<message>.*)", re.DOTALL
)
_SHORT_ROW = re.compile(r"row (\d+) lacks ")


class Findings:
    """Problems as they turn up. A fault that many rows share is kept once, with the first row and the count.

    failed: ("format" or "metric", name) of what a problem is about. unchecked: names of metrics that can't work here.
    to_pull: the data set of which a split is on the hub alone, '' for none.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.notices: list[str] = []
        self.failed: set[tuple[str, str]] = set()
        self.unchecked: set[str] = set()
        self.to_pull = ""
        self._problems: list[Problem] = []
        # What makes problems the same -> the first one, and the rows that show it.
        self._of_rows: dict[tuple[object, ...], tuple[Problem, list[str]]] = {}

    def add(self, *problems: Problem) -> None:
        self._problems += problems

    def at(self, location: Location, message: str) -> None:
        """A problem at a place of task.yaml."""
        self._problems.append(self.document.problem(location, message))

    def note(self, notice: str) -> None:
        """Something that could not be checked; told once."""
        if notice not in self.notices:
            self.notices.append(notice)

    def of_row(self, rule: str, problem: Problem, row: str) -> None:
        """A problem that a row shows. rule: what makes two rows' problems the same, beside the place."""
        key = (rule, problem.path, problem.line, problem.column)
        self._of_rows.setdefault(key, (problem, []))[1].append(row)

    def of_format(self, name: str, location: Location, message: str, row: str) -> None:
        """A row's problem with a format. The message up to its second colon is the rule."""
        self.failed.add(("format", name))
        fault = self.document.problem(location, f"format {name!r}: {message}")
        self.of_row(f"{name} {message.split(':')[0]}", fault, row)

    def of_metric(self, name: str, location: Location, message: str, row: str) -> None:
        """A row's problem with a metric. The message up to its colon is the rule."""
        self.failed.add(("metric", name))
        self.of_row(f"{name} {message.split(':')[0]}", self.document.problem(location, f"{name} {message}"), row)

    def all(self) -> tuple[Problem, ...]:
        """Every problem once, in the order of finding; those of rows after the rest."""
        found = list(self._problems)
        for problem, rows in self._of_rows.values():
            n = len(rows)
            more = f"; {n - 1} more {'row' if n == 2 else 'rows'} alike" if n > 1 else ""
            found.append(Problem(problem.path, problem.line, problem.column, f"{problem.message} ({rows[0]}{more})"))
        return tuple({str(problem): problem for problem in found}.values())


def problems_of(error: SlmbenchError, found: Findings, location: Location = ()) -> list[Problem]:
    """The problems that an error stands for: its own, or the place that its message begins with, else the location."""
    told = found.document.problem(location, str(error))
    return error.problems if isinstance(error, DeclarationError) else [located(str(error)) or told]


def problems_in(error: SlmbenchError, path: str) -> list[Problem]:
    """The same, where all that is known else is the file or folder that it is about."""
    told = Problem(shown(path), 0, 0, str(error))
    return error.problems if isinstance(error, DeclarationError) else [located(str(error)) or told]


def located(message: str) -> Problem | None:
    """The problem of a message that begins with the path of code or of a row file, else None. Lines count from 1."""
    match = _PLACE.match(message)
    if match is None:
        return None
    line, column = int(match["line"] or 0), int(match["column"] or 1)
    row = _SHORT_ROW.match(match["message"])
    if not line and row and match["path"].endswith(".jsonl"):
        line = int(row[1]) + 1
    return Problem(shown(match["path"]), line, column, match["message"])


def short(text: str) -> str:
    """The text quoted, and cut where it is long."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
