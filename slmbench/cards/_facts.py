"""What a card says, as values: what it is of, what that was made of and from, what it scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from attrs import field, frozen

from slmbench.cards._licence import Licence, Licensed
from slmbench.runs import TrainingRecord
from slmbench.values import Estimate, JsonObject

Kind = Literal["adapter", "model", "merge", "export", "evaluation"]
Relation = Literal["adapter", "finetune", "merge"]


@frozen
class CardBase:
    """What it was made on. name: as it was called; hub: its id on the hub, None if it has none that is known.

    declared: whether the name is one of the registry's.
    """

    name: str
    hub: str | None = None
    declared: bool = False
    twin: bool = False


@frozen
class CardData:
    """A task that was trained on. dataset: its name; hub: its id on the hub; None if nothing says so."""

    task: str
    dataset: str | None
    hub: str | None
    license: str | None


@frozen
class CardScore:
    """One score of a card's table.

    task, metric: as their column is called. key: of what was asked, its first digits. asked: in words, as `5 shots,
    chat`. base: of the base, under the same condition. difference: of the two on the same items, with the verdict of
    the test of it; None if there is none. badges: why it is not ranked. primary: whether it stands for its task.
    data: hub id of the rows, with their commit if one is known; None if they aren't the hub's. source: where from.
    ended: when, UTC.
    """

    task: str
    metric: str
    key: str
    asked: str
    shots: int | None
    estimate: Estimate
    higher_is_better: bool
    primary: bool
    source: str
    data: str | None
    revision: str | None
    ended: str
    badges: tuple[str, ...] = ()
    base: Estimate | None = None
    difference: Estimate | None = None
    verdict: str = ""

    def as_json(self) -> JsonObject:
        """For `--json`."""

        def told(made: Estimate | None) -> JsonObject | None:
            if made is None:
                return None
            span = (None, None) if made.method == "none" else (made.ci_low, made.ci_high)
            return {"value": made.value, "ci_low": span[0], "ci_high": span[1], "n": made.n}

        return {
            "task": self.task,
            "metric": self.metric,
            "asked": self.asked,
            "primary": self.primary,
            "badges": list(self.badges),
            "this": told(self.estimate),
            "base": told(self.base),
            "difference": told(self.difference),
            "verdict": self.verdict or None,
        }


@frozen
class CardFacts:
    """All that a card says.

    name: of its folder. files: those that lie there, by name. relation: to the base. training: the record; None if
    nothing was trained here. recipe: as YAML, None if nothing says it. parts: what was merged, in words. limits:
    what a reader has to know. citations: BibTeX. of_adapter: whether the scores are those of the
    adapter that an export was made of. engines: what computed the answers. evaluated_on: hardware, in words.
    """

    kind: Kind
    name: str
    base: CardBase | None
    relation: Relation | None
    architecture: str
    files: tuple[str, ...]
    licence: Licence
    licensed: tuple[Licensed, ...] = ()
    data: tuple[CardData, ...] = ()
    training: TrainingRecord | None = None
    recipe: str | None = None
    parts: tuple[str, ...] = ()
    made: Mapping[str, str] = field(factory=dict)
    scores: tuple[CardScore, ...] = ()
    limits: tuple[str, ...] = ()
    citations: Sequence[str] = ()
    engines: tuple[str, ...] = ()
    evaluated_on: tuple[str, ...] = ()
    format: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def library(self) -> str:
        """The hub's name of what loads it."""
        if self.kind == "adapter":
            return "peft"
        return "gguf" if any(name.lower().endswith(".gguf") for name in self.files) else "transformers"
