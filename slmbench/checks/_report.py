"""What a check found, as a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import field, frozen

from slmbench.errors import Problem
from slmbench.lengths import Ruler, percentile
from slmbench.values import JsonObject


@frozen
class Lengths:
    """Tokens of the checked rows of the evaluated split, in the plain format.

    prompt: 50th and 99th percentile and the largest. answer_p99: of the gold answers. context: how many tokens the
    model reads, None if that isn't known. over: how many prompts are longer.
    """

    model: str
    prompt_p50: int
    prompt_p99: int
    prompt_max: int
    answer_p99: int
    context: int | None
    over: int

    def as_json(self) -> JsonObject:
        return {
            "model": self.model,
            "context": self.context,
            "prompt": {"p50": self.prompt_p50, "p99": self.prompt_p99, "max": self.prompt_max},
            "answer": {"p99": self.answer_p99},
            "prompts_over_context": self.over,
        }


def measure(prompts: Sequence[str], answers: Sequence[str], ruler: Ruler) -> Lengths | None:
    """The lengths of prompts and of the answers beside them; None if there are none."""
    if not prompts:
        return None
    asked = ruler.lengths(prompts)
    said = ruler.lengths(answers, special_tokens=False)
    context = ruler.context_tokens
    over = sum(n > context for n in asked) if context is not None else 0
    return Lengths(
        ruler.model,
        percentile(asked, 50),
        percentile(asked, 99),
        max(asked),
        percentile(said, 99),
        context,
        over,
    )


@frozen
class CheckReport:
    """What a check found.

    source: of the evaluated rows: mirror, file, generated or golden; '' where none was available. rows: how many were
    rendered and scored, over all splits. splits: name -> rows that were read, the golden ones too. formats, metrics:
    name -> ok, failed, or (metrics that can't work here) unchecked. notices: what could not be checked, and why.
    to_pull: the data set of which a split is on the hub alone, '' for none.
    """

    task: str
    problems: tuple[Problem, ...]
    kind: str = ""
    source: str = ""
    rows: int = 0
    splits: Mapping[str, int] = field(factory=dict)
    formats: Mapping[str, str] = field(factory=dict)
    metrics: Mapping[str, str] = field(factory=dict)
    lengths: Lengths | None = None
    license: str = ""
    notices: tuple[str, ...] = ()
    to_pull: str = ""

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_json(self) -> JsonObject:
        """`{"task", "ok", "problems": [{"path", "line", "message"}], ...}`."""
        problems = [{"path": one.path, "line": one.line, "message": one.message} for one in self.problems]
        return {
            "task": self.task,
            "ok": self.ok,
            "problems": problems,
            "kind": self.kind,
            "source": self.source,
            "rows": self.rows,
            "splits": dict(self.splits),
            "formats": dict(self.formats),
            "metrics": dict(self.metrics),
            "tokens": self.lengths.as_json() if self.lengths else None,
            "license": self.license,
            "notices": list(self.notices),
        }
