"""The declaration of a recipe: what is trained on what, how, and what is evaluated afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from slmbench.errors import did_you_mean
from slmbench.schema._base import Misfits, Name, Spec
from slmbench.schema._changes import Changes, changed, changes_to
from slmbench.schema._optim import MAX_STEPS, MixingSpec, OptimSpec
from slmbench.schema._published import PublishedSpec
from slmbench.schema._task import CotMode


def _needs_no_address(name: str) -> str:
    if name == "server":
        raise ValueError(
            "another engine here: 'server' asks a server that is running, which is told where on the command line "
            "alone: slmbench eval MODEL --engine server --url URL"
        )
    return name


EngineName = Annotated[str, Field(min_length=1, examples=["shared", "hf", "vllm"]), AfterValidator(_needs_no_address)]
"""slmbench's own engines, and those that plugins bring."""
FormatName = Annotated[str, Field(min_length=1, examples=["plain", "chat", "toon"])]
"""slmbench's own formats, and those that plugins bring."""


class LoraSpec(Spec):
    """Low-rank adapters. targets None: those that the model declares.

    rslora: alpha is divided by the square root of the rank (Kalajdzievski 2023); dora: magnitude and direction apart
    (Liu et al. 2024); lr_ratio: LoRA+, the learning rate of B over that of A (Hayou et al. 2024).
    """

    rank: int = Field(default=16, ge=1, le=1024)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: Annotated[list[str], Field(min_length=1)] | Literal["all-linear"] | None = None
    rslora: bool = False
    dora: bool = False
    lr_ratio: float | None = Field(default=None, ge=1, le=1000)


class QuantizationSpec(Spec):
    """How the frozen base is held under `method: qlora`: in four bits (Dettmers et al. 2023) or in eight (2022).

    double: of four bits, the constants too. compute: of four bits, what they are unpacked to; int8 is multiplied as it
    is, and what is beyond it by itself.
    """

    type: Literal["nf4", "fp4", "int8"] = "nf4"
    double: bool = True
    compute: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @model_validator(mode="after")
    def _fitting(self) -> QuantizationSpec:
        if self.type == "int8" and self.compute != "auto":
            raise Misfits([(("compute",), "goes with four bits; int8 is multiplied as it is: leave it out, or auto")])
        return self

    @property
    def label(self) -> str:
        """What records call it, as nf4+double."""
        return f"{self.type}+double" if self.double and self.type != "int8" else self.type


if TYPE_CHECKING:
    LoraChanges = Changes
    OptimChanges = Changes
else:
    LoraChanges = changes_to(LoraSpec, "What one adapter has in place of the recipe's `lora`, key by key.")
    OptimChanges = changes_to(OptimSpec, "What one adapter has in place of the recipe's `optim`, key by key.")
_LENGTHS = ("steps", "epochs")
_SHAPED_BY = ("rank", "alpha", "rslora", "dora", "targets")
"""What an adapter's weights mean nothing without."""


class InitialAdapterSpec(Spec):
    """An adapter that a training goes on from. path: its folder; adapter: another one of the recipe.

    optimizer: as if its training had not ended, with its optimiser's state, where it was in the order of rows, if those
    are the same, and what dropout draws next.
    """

    path: Annotated[str, Field(min_length=1)] | None = None
    adapter: Name | None = None
    optimizer: bool = False

    @model_validator(mode="after")
    def _one_place(self) -> InitialAdapterSpec:
        if (self.path is None) == (self.adapter is None):
            raise ValueError("give one of 'path' (a folder) and 'adapter' (another one of this recipe)")
        return self


InitialAdapter = Annotated[str, Field(min_length=1)] | InitialAdapterSpec
"""A folder alone, or which adapter and how."""


class AdapterSpec(Spec):
    """One adapter: the tasks it is trained on together, and what differs from the recipe's `lora` and `optim`.

    steps: the same as `optim: {steps: N}`. init_adapter: an adapter that it goes on from, in place of the recipe's;
    null if it goes on from none, whatever the recipe says.
    """

    tasks: list[Name] = Field(min_length=1)
    steps: int | None = Field(default=None, ge=0, le=MAX_STEPS)
    lora: LoraChanges | None = None
    optim: OptimChanges | None = None
    init_adapter: InitialAdapter | None = None

    @model_serializer(mode="wrap")
    def _null_if_given(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Null is said of this adapter alone; one that says nothing of it has the recipe's, read again too.
        return {key: value for key, value in dump(self).items() if key != "init_adapter" or self.says_initial}

    @property
    def says_initial(self) -> bool:
        """Whether it says itself what it goes on from, if only that it is from nothing."""
        return "init_adapter" in self.model_fields_set

    @model_validator(mode="after")
    def _fitting(self) -> AdapterSpec:
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError("a task is listed twice")
        given: dict[str, Any] = {} if self.optim is None else self.optim.given()
        lengths = [f"optim.{key}" for key in _LENGTHS if given.get(key) is not None]
        lengths = (["steps"] if self.steps is not None else []) + lengths
        if len(lengths) > 1:
            said = " and ".join(map(repr, lengths))
            raise ValueError(f"{said} both say how long to train; keep one")
        return self


class RowsSpec(Spec):
    """n rows of each task's train split, drawn by a seed: those of datasets' `shuffle(seed=seed).select(range(n))`.

    Of the split as the data set declares it, after its `where`, `filled` and `holdout`; if one of them leaves rows out,
    the rule is that of a shuffle of the hub's whole split, and the rows are others.
    """

    n: int = Field(ge=1)
    seed: int = Field(ge=0, lt=2**63)


class ValidationSpec(Spec):
    """Rows of each task's train split that are kept aside, and after how many steps their loss is taken."""

    rows: int = Field(default=64, ge=1)
    every_steps: int = Field(default=50, ge=1)


class CheckpointSpec(Spec):
    """After how many steps, and after how many minutes at most, a training can be taken up again; keep: such places.

    Ctrl-C makes one at once, whatever these say.
    """

    every_steps: int = Field(default=50, ge=1)
    every_minutes: float = Field(default=5.0, gt=0)
    keep: int = Field(default=2, ge=1, le=100)


class LaunchSpec(Spec):
    """How many processes make one training: each takes its share of every micro-batch, on cores or a GPU of its own.

    The adapter is that of one process, to within rounding.
    """

    processes: int = Field(default=1, ge=1, le=1024)


class EvaluationSpec(Spec):
    """What base and adapters are scored on. limit: the first n items (such rows are badged and not ranked).

    batch: how many rows' memory may be taken; auto, what is free. engine: hf is lm-eval's own.

    samples: an item, of code tasks; metrics: only these; max_tokens: an answer's; None for what the tasks declare.
    perplexity: the bits that right answers cost are scored, too.

    adapters_on: own, if each adapter is scored on those of the tasks alone that it was trained on, and the base on all;
    it is for `slmbench run`, as a sweep and a matrix cross everything.
    """

    tasks: Annotated[list[Name], Field(min_length=1)] | None = None
    suite: Name | None = None
    batch: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    engine: EngineName = "shared"
    limit: int | None = Field(default=None, ge=1)
    samples: int | None = Field(default=None, ge=1, le=1000)
    metrics: Annotated[list[str], Field(min_length=1)] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    adapters_on: Literal["all", "own"] = "all"
    perplexity: bool = False

    @model_validator(mode="after")
    def _one_list(self) -> EvaluationSpec:
        if (self.tasks is None) == (self.suite is None):
            raise ValueError("an evaluation has exactly one of 'tasks' and 'suite'")
        return self


class RecipeSpec(Spec):
    """A recipe. shots: worked examples in every prompt; cot: chain of thought; None for what each task declares.

    method: what is trained; full is all weights, for models of a few million. quantization: of `qlora`, NF4 by default.
    loss: of the answer's tokens and its end, or of the prompt's too. init_adapter: the folder of an adapter that all go
    on from. keep_optimizer: what a later training needs to go on with the optimiser's state, twice the adapter's size.
    rows: the first so many training rows of a task,
    or so many drawn by a seed. max_tokens: longer rows are cut, counted and shown. packing: batches are filled to
    `batch * max_tokens` tokens with whole rows that don't see each other. variants: named overrides, as `--set` takes
    them, chosen with `--variant`. sweep: key -> values that `slmbench sweep` tries, all with all; a key is a dotted
    path, or a setting's own name where that is one setting's alone.

    published: numbers that others gave for what it makes, which are shown beside what is measured. prompts: texts
    that base and adapters answer beside the evaluation; the page shows their answers side by side.
    """

    # Not written out: what recipes said before there were two kinds of them stays as it was.
    kind: Literal["train"] = Field(default="train", exclude=True)
    summary: str = Field(min_length=1)
    source: str = ""
    model: str
    method: Literal["lora", "qlora", "full"] = "lora"
    loss: Literal["answer", "all"] = "answer"
    format: FormatName = "plain"
    adapters: dict[Name, AdapterSpec] = Field(min_length=1)
    init_adapter: InitialAdapter | None = None
    keep_optimizer: bool = False
    lora: LoraSpec = LoraSpec()
    quantization: QuantizationSpec | None = None
    optim: OptimSpec = OptimSpec()
    mixing: MixingSpec | None = None
    packing: bool = False
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    shots: int | None = Field(default=None, ge=0, le=100)
    cot: CotMode | None = None
    rows: Annotated[int, Field(ge=1)] | RowsSpec | None = None
    max_tokens: int = Field(default=512, ge=8)
    validation: ValidationSpec | None = None
    checkpoint: CheckpointSpec = CheckpointSpec()
    launch: LaunchSpec = LaunchSpec()
    log_every_steps: int = Field(default=10, ge=1)
    on_contamination: Literal["fail", "drop", "warn"] = "drop"
    memory_limit_gb: float | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0, lt=2**32)
    variants: dict[Name, dict[str, Any]] = Field(default={})
    sweep: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default={})
    evaluation: EvaluationSpec
    published: list[PublishedSpec] = Field(default=[])
    prompts: list[Annotated[str, Field(min_length=1, max_length=20_000)]] = Field(default=[], max_length=200)

    def for_adapter(self, name: str) -> RecipeSpec:
        """The recipe as it is for one adapter: `lora` and `optim` with what the adapter has of its own in them."""
        own = self.adapters[name]
        optim = self.optim if own.steps is None else self.optim.model_copy(update={"steps": own.steps, "epochs": None})
        initial = own.init_adapter if own.says_initial else self.init_adapter
        initial = InitialAdapterSpec(path=initial) if isinstance(initial, str) else initial
        settings = {"lora": changed(self.lora, own.lora), "optim": changed(optim, own.optim, _LENGTHS)}
        return self.model_copy(update=settings | {"init_adapter": initial})

    def initial_of(self, name: str) -> InitialAdapterSpec | None:
        """What an adapter goes on from; None if from nothing."""
        initial = self.for_adapter(name).init_adapter
        assert not isinstance(initial, str)
        return initial

    def keeps_optimizer(self, name: str) -> bool:
        """Whether an adapter's training leaves its optimiser's state: as told, or as another one goes on with it."""
        others = (self.initial_of(other) for other in self.adapters)
        return self.keep_optimizer or any(one and one.optimizer and one.adapter == name for one in others)

    def in_order(self, names: Sequence[str]) -> list[str]:
        """Adapters and those of the recipe that they go on from, each after the one that it goes on from."""
        found: dict[str, None] = {}
        for name in names:
            way = [name]
            while (initial := self.initial_of(way[-1])) is not None and initial.adapter is not None:
                way.append(initial.adapter)
            found |= dict.fromkeys(reversed(way))
        return list(found)

    @model_validator(mode="after")
    def _fitting(self) -> RecipeSpec:
        faults: list[tuple[tuple[str | int, ...], str]] = []
        trained = {task for adapter in self.adapters.values() for task in adapter.tasks}
        for task in self.mixing.weights if self.mixing else ():
            if task not in trained:
                faults.append((("mixing", "weights", task), f"no adapter is trained on {task!r}"))
        faults += [*self._unvalidated(), *self._unbegun()]
        if self.method == "full" and self.keep_optimizer:
            faults.append((("keep_optimizer",), "goes with adapters, which `init_adapter` goes on from"))
        if self.method != "qlora" and self.quantization is not None:
            faults.append((("quantization",), f"goes with `method: qlora`; this one is {self.method!r}"))
        if faults:
            raise Misfits(faults)
        return self

    def _unvalidated(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Where a plateau is asked for that nothing shows."""
        if self.validation is not None:
            return
        said = "'plateau' follows the validation loss; declare `validation`"
        if self.optim.schedule == "plateau":
            yield ("optim", "schedule"), said
        for name, adapter in self.adapters.items():
            if adapter.optim is not None and adapter.optim.given().get("schedule") == "plateau":
                yield ("adapters", name, "optim", "schedule"), said

    def _unbegun(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What is wrong with what adapters go on from."""
        whole = isinstance(self.init_adapter, InitialAdapterSpec) and self.init_adapter.adapter is not None
        if whole:
            said = "is said of the adapter that goes on from it: adapters.NAME.init_adapter"
            yield ("init_adapter", "adapter"), f"an adapter of this recipe {said}"
        for name, own in self.adapters.items():
            spec, initial = self.for_adapter(name), self.initial_of(name)
            place: tuple[str | int, ...] = ("init_adapter",)
            if own.init_adapter is not None:
                place = ("adapters", name, "init_adapter")
            if initial is None and spec.optim.steps == 0:
                told = own.optim is not None and own.optim.given().get("steps") == 0
                at = ("steps",) if own.steps == 0 else ("optim", "steps") if told else None
                at = ("optim", "steps") if at is None else ("adapters", name, *at)
                yield at, "0 steps train nothing; they go with `init_adapter`, and leave that one as it is"
            elif initial is not None and self.method == "full":
                yield place, "goes with adapters; `method: full` trains a model, which is named as `model`"
            elif initial is not None and initial.adapter is not None and not whole:
                yield from ((place, said) for said in self._no_beginning(name, initial.adapter))

    def _no_beginning(self, name: str, first: str) -> Iterator[str]:
        """Why an adapter can't go on from another one of the recipe."""
        if first not in self.adapters:
            yield f"this recipe has no adapter {first!r}{did_you_mean(first, self.adapters)}"
            return
        way, there = [name], first
        while there not in way:
            way.append(there)
            initial = self.initial_of(there) if there in self.adapters else None
            if initial is None or initial.adapter is None:
                break
            there = initial.adapter
        else:
            yield f"{' goes on from '.join([*way, there])}, so none of them can be first"
            return
        one, other = self.for_adapter(name).lora, self.for_adapter(first).lora
        differing = [key for key in _SHAPED_BY if getattr(one, key) != getattr(other, key)]
        if differing:
            parts = (f"lora.{key}: {getattr(other, key)!r} there, {getattr(one, key)!r} here" for key in differing)
            said = "; ".join(parts)
            yield f"{first!r} has another shape or scale ({said}), which a training can't change; give both the same"


class SuiteSpec(Spec):
    """A named list of tasks that are scored together.

    aggregate: the tasks whose mean a leaderboard of the suite is ordered by; those that all its rows have if it isn't
    there. table: `measures` adds a table of quality, waiting, tokens and memory to that leaderboard.
    """

    summary: str = Field(min_length=1)
    tasks: list[Name] = Field(min_length=1)
    format: FormatName | None = None
    aggregate: list[Name] | None = Field(default=None, min_length=1)
    table: Literal["measures"] | None = None

    @model_validator(mode="after")
    def _averages_its_tasks(self) -> SuiteSpec:
        others = [task for task in self.aggregate or () if task not in self.tasks]
        if others:
            raise Misfits([(("aggregate",), f"aggregate: not among the suite's tasks: {', '.join(others)}")])
        return self
