"""What an output says once the format is taken off it, and, of a code task, what became of it when it was run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import evolve, frozen

from slmbench.console import bar
from slmbench.formats import Format, FormatFault
from slmbench.runs import SandboxPart
from slmbench.sandbox import Program, Sandbox, Verdict, open_sandbox
from slmbench.task import Task, program_of
from slmbench.values import Example

TIMEOUT_S = 3.0


@frozen
class ReadAnswer:
    """text: what metrics see. fault: why the output is not in its format, '' where it is. verdict: of a program."""

    text: str
    fault: str = ""
    verdict: str = ""
    detail: str = ""


def read_answer(format: Format, example: Example, output: str) -> ReadAnswer:
    """The bare text of an output; of one that isn't in the format, the empty text and the fault.

    Of one that ends within its value it is what was written so far.
    """
    try:
        return ReadAnswer(format.read(output, example.reasoning is not None))
    except FormatFault as fault:
        # It was cut within its answer, which is counted as such and is no fault of its form.
        if (so_far := format.partial(output, example.reasoning is not None)) is not None:
            return ReadAnswer(so_far)
        return ReadAnswer("", str(fault))


def judge_code(
    task: Task,
    examples: Sequence[Example],
    format: Format,
    sandbox: Sandbox,
    delimiter: str = "",
) -> Callable[[Sequence[Sequence[str]], Sequence[int]], list[list[ReadAnswer]]]:
    """Runs every sample of every item of a code task, in the sandbox, several at a time.

    delimiter: what the format put between prompt and answer. Where the task itself has none there, as in code that goes
    on from a line break, it is no part of the program.
    """
    lead = delimiter if not task.spec.prompt.delimiter else ""

    def judge(outputs: Sequence[Sequence[str]], indices: Sequence[int]) -> list[list[ReadAnswer]]:
        read: list[list[tuple[ReadAnswer, Program | None]]] = []
        for samples, index in zip(outputs, indices, strict=True):
            read.append([])
            for sample in samples:
                answer = read_answer(format, examples[index], sample.removeprefix(lead))
                fenced = format.fenced
                # What is not in its format is no program.
                program = None if answer.fault else program_of(task, examples[index], answer.text, fenced=fenced)
                read[-1].append((answer, program))
        # Samples of one problem are often the same text; it is run once.
        programs = list(dict.fromkeys(program for one in read for _, program in one if program is not None))
        with bar("running programs", len(programs), "programs"):
            made = sandbox.run(programs, timeout_s=TIMEOUT_S)
        verdicts = dict(zip(programs, made, strict=True))
        return [[_judged(answer, verdicts[program] if program else None) for answer, program in one] for one in read]

    return judge


def sandbox_record(task: Task, sandbox: Sandbox | None) -> SandboxPart | None:
    """What a run's record says of how programs are run; `examine` only where it is not the two processes."""
    if sandbox is None or task.spec.code is None:
        return None
    examine = task.spec.code.examine
    weaker = {} if examine == "two_processes" else {"examine": examine}
    return SandboxPart(tier=sandbox.tier, timeout_s=TIMEOUT_S, **weaker)


def _judged(answer: ReadAnswer, verdict: Verdict | None) -> ReadAnswer:
    if verdict is None:
        return evolve(answer, verdict="failed")
    return evolve(answer, verdict=verdict.status, detail=verdict.detail)


def refuse_unscorable(tasks: Sequence[Task], *, allow_unsafe_code: bool = False) -> Sandbox | None:
    """Asks every metric whether it can work here, before any model runs. Raises what the metric says.

    Returns what programs of code tasks run in, None where no task has any. Raises TrustError where nothing can jail
    them.
    """
    for task in tasks:
        for scorer in task.scorers:
            if scorer.ready is not None:
                scorer.ready()
    return open_sandbox(allow_unsafe=allow_unsafe_code) if any(task.kind == "code" for task in tasks) else None
