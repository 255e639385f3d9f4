"""The declaration of a number that somebody published, so that it can stand beside what is measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from slmbench.errors import did_you_mean
from slmbench.schema._base import Misfits, Name, Spec
from slmbench.schema._targets import TARGET_LABELS, targets_label
from slmbench.schema._task import CotMode

OTHER = "other"
LATENCY = "latency"
UNITS = {"percent": 0.01, "seconds": 1.0, "milliseconds": 0.001}
"""unit -> what makes it a metric's own: a share, or seconds."""


def _rising(ends: list[float | int]) -> list[float | int]:
    if not ends[0] < ends[1]:
        raise ValueError(f"a range goes from a number to a larger one, got {ends[0]} and {ends[1]}")
    return ends


def _label(targets: object) -> object:
    """A list of modules as people call it; anything else as it is."""
    if isinstance(targets, list) and targets and all(isinstance(one, str) and one.strip() for one in targets):
        return targets_label([one.strip() for one in targets])
    if not isinstance(targets, str) or targets.casefold() in map(str.casefold, TARGET_LABELS):
        return targets
    if not targets.strip() or ", " in targets or ": " in targets:  # As a list's own label is.
        return targets
    raise ValueError(
        f"no layers are called {targets!r}{did_you_mean(targets, TARGET_LABELS)}; or list modules: [q_proj]"
    )


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Words = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000)]
"""Text that may be left out."""
Targets = Annotated[Text, BeforeValidator(_label, json_schema_input_type=str | list[str])]
Figure = float | int | Annotated[list[float | int], Field(min_length=2, max_length=2), AfterValidator(_rising)]
"""A number, or from where to where."""


class InFilesSpec(Spec):
    """What the publisher's own files say in place of a published number. counted: how, if it isn't as that one."""

    value: Figure
    source: Text
    counted: Words = ""


class UnderSpec(Spec):
    """How a published number was made, as far as what is measured here may be made otherwise.

    Only what has all of it is compared. shots, format, cot: how the task was asked. rank, alpha, lr, steps: of the
    adapter; targets: which layers it is on, as attention, MLP, both, all-linear, or a list of modules. quantization:
    how the base was held, as nf4, nf4+double or int8; left out: whole, and nothing held in fewer bits is compared.
    """

    shots: int | None = Field(default=None, ge=0)
    format: Text | None = None
    cot: CotMode | None = None
    rank: int | None = Field(default=None, ge=1)
    alpha: float | None = Field(default=None, gt=0)
    lr: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, ge=1)
    targets: Targets | None = None
    quantization: Text | None = None


class PublishedSpec(Spec):
    """A number that a publication gives for what a recipe makes.

    value: as it is there; a list of two is a range. unit: percent, seconds or milliseconds; left out: the metric's own,
    which is a share from 0 to 1 of most, and seconds of `latency`. metric: a value of the task's, as rougeL or pass@1;
    `latency`, of one item alone; or `other`, of what slmbench doesn't measure, which is shown and never compared.
    called: what the publication calls it, if not so. model: the recipe's own if left out; of one that the recipe does
    not have it is shown alone. adapter: one of the recipe's, left out of a model without one. source: repository,
    commit and file, or whatever leads there. counted: how, in words. stderr: the standard error that is given with it,
    in the same unit; n: of how many items, which a stderr needs. in_files: what the publisher's files say instead.
    fault: why it can't be what it says; such a number is never compared.
    """

    value: Figure
    unit: Literal["percent", "seconds", "milliseconds"] | None = None
    metric: Text
    called: Words = ""
    task: Name
    model: Text | None = None
    adapter: Text | None = None
    under: UnderSpec = UnderSpec()
    source: Text
    counted: Text
    stderr: float | None = Field(default=None, gt=0)
    n: int | None = Field(default=None, ge=2)
    in_files: InFilesSpec | None = None
    fault: Words = ""

    @model_validator(mode="after")
    def _says_what_it_is(self) -> PublishedSpec:
        if self.metric == OTHER and not self.called:
            raise Misfits([(("metric",), "`metric: other` needs `called`, what the publication calls it")])
        if self.stderr is not None and self.n is None:
            raise Misfits([(("stderr",), "a standard error needs `n`, the number of items that it is of")])
        if self.metric == LATENCY and self.unit == "percent":
            raise Misfits([(("unit",), "a latency is in seconds or milliseconds, not in percent")])
        if self.metric == LATENCY:
            told = [
                (("value",), self.value),
                *([(("in_files", "value"), self.in_files.value)] if self.in_files else []),
            ]
            early = [(at, found) for at, found in told if (min(found) if isinstance(found, list) else found) <= 0]
            if early:
                raise Misfits([(at, f"a latency is longer than nothing, got {found}") for at, found in early])
        if self.metric not in (OTHER, LATENCY) and self.unit in ("seconds", "milliseconds"):
            raise Misfits([(("unit",), f"{self.unit} go with `metric: latency` or `other`, not with {self.metric!r}")])
        return self
