"""The errors that slmbench raises on purpose. Each says where, what was got, what to do, and has an exit code."""

from __future__ import annotations


class SlmbenchError(Exception):
    """Base of all expected failures. `exit_code` is what the command line ends with."""

    exit_code = 1


class UsageError(SlmbenchError):
    """A name, option or combination that can't work; nothing was started."""

    exit_code = 2


class DeclarationError(SlmbenchError):
    """One or more faults of declarations; `problems` holds them all, each `path:line:column: message`."""

    exit_code = 2

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class HookError(SlmbenchError):
    """A plugin's hook raised or returned the wrong thing; the message names file, line, hook and row."""

    exit_code = 2


class DataError(SlmbenchError):
    """Rows that don't fit their declaration: a missing column, an empty split, a damaged mirror."""

    exit_code = 2


class FileError(SlmbenchError):
    """A file that somebody else may have written and that doesn't hold what it has to; `problems` has every fault.

    todo: what a person can do about it, as `train it again`.
    """

    exit_code = 2

    def __init__(self, problems: list[Problem], todo: str = "") -> None:
        self.problems = list(problems)
        self.todo = todo
        said = "\n".join(str(problem) for problem in self.problems)
        super().__init__(f"{said}; {todo}" if todo else said)


class ParityError(SlmbenchError):
    """Training and evaluation would not see the same prompt."""

    exit_code = 2


class TrustError(SlmbenchError):
    """Code would have to run that nobody vouched for."""

    exit_code = 3


class EngineError(SlmbenchError):
    """Nothing can be computed: no task is at fault, and another one would fail alike."""


class OfflineError(SlmbenchError):
    """Something has to be fetched and can't be."""

    exit_code = 4


class MissingData(OfflineError):
    """A split that is not on this machine and isn't available from here.

    dataset: its name. what: which split, and why it isn't available. way: how to get it, if it isn't pulled. said: what
    a library said. Several of them make one error with `all_missing`.
    """

    def __init__(self, dataset: str, what: str, *, pulled: bool, way: str = "", said: str = "") -> None:
        self.dataset, self.what, self.pulled, self.way = dataset, what, pulled, way
        ways = pulled_by([dataset]) if pulled else way
        super().__init__(
            f"{what}; {ways}, or try the task's golden rows with `--data samples`" + f". ({said})" * bool(said)
        )


def pulled_by(names: list[str]) -> str:
    """How data sets of the hub get to a machine without a network."""
    them = "it" if len(names) == 1 else "them"
    listed = " ".join(names)
    return f"pull {them} on a connected machine with `slmbench data pull {listed} --to DIR` and set SLMBENCH_DATA=DIR"


def all_missing(errors: list[MissingData]) -> OfflineError:
    """One error for all data that is missing, with the way to get each; of one alone, that one."""
    if len(errors) == 1:
        return errors[0]
    names = list(dict.fromkeys(error.dataset for error in errors if error.pulled))
    lines = [f"{len({error.dataset for error in errors})} data sets are not on this machine:"]
    lines += [f"  {error.what}" + (f"; {error.way}" if not error.pulled else "") for error in errors]
    if names:
        lines.append(f"{pulled_by(names)},")
    return OfflineError("\n".join([*lines, "or try the tasks' golden rows with `--data samples`"]))


class Problem:
    """One fault of a file: where (path, 1-based line and column, 0 if unknown) and what."""

    __slots__ = ("column", "line", "message", "path")

    def __init__(self, path: str, line: int, column: int, message: str) -> None:
        self.path = path
        self.line = line
        self.column = column
        self.message = message

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        return f"{where}: {self.message}"

    def __repr__(self) -> str:
        return f"Problem({str(self)!r})"


def did_you_mean(got: str, known: object) -> str:
    """`; did you mean 'gsm8k'?` or, with nothing near, `; known: a, b, c`. known: an iterable of names."""
    from difflib import get_close_matches

    names = sorted(str(name) for name in known)  # type: ignore[attr-defined]
    near = get_close_matches(got, names, n=1, cutoff=0.6)
    # difflib lines 'nono' and 'nano' up at their longest common part, and calls one wrong letter a half.
    near = near or [
        n for n in names if len(n) == len(got) > 2 and sum(a != b for a, b in zip(n, got, strict=True)) == 1
    ]
    if near:
        return f"; did you mean {near[0]!r}?"
    if not names:
        return "; there are none"
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f"; known: {shown}"
