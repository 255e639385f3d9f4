"""The Task value: rows become examples, examples become prompts and targets, outputs become scores."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from attrs import evolve, field, frozen

from slmbench.datasets import Dataset, Row, Rows, fetch_rows, local_source, sample_rows, without_nan
from slmbench.errors import DataError, UsageError
from slmbench.formats import Format, Rendered
from slmbench.headers import source_sha256
from slmbench.metrics import Scorer
from slmbench.plugins import Plugin
from slmbench.registry import Registry
from slmbench.schema import CotSpec, FormPromptSpec, FormSpec, TaskSpec
from slmbench.task._choices import gold_of, options_of
from slmbench.task._fields import field_at, inputs_of, texts_at
from slmbench.task._judging import extracted, scores_samples
from slmbench.task._twin_rows import part_of_golden
from slmbench.templates import Template
from slmbench.values import Example, JsonObject, Output, Prompt, Score, Shot, Target, Tokenizer


@frozen(eq=False)
class Task:
    """A declared task. data: 'auto' for the declared data set; 'samples' for the golden rows in every split; 'twin' for
    the splits that are on this machine, and parts of the golden rows for those that are not.

    examples(split) fetches and converts the rows; prompt(example), target(example) and score(example, output) are pure.
    cot: off, zero or few; off where the task declares none. n_shots: in place of the declared number; None for that.
    form: the kind of format that the declaration is bound to; `in_format` binds it. plugins: what is registered for it.
    """

    name: str
    spec: TaskSpec
    folder: str
    dataset: Dataset
    plugin: Plugin | None
    scorers: tuple[Scorer, ...]
    data: str = "auto"
    cot: str = "off"
    n_shots: int | None = None
    form: str = "completion"
    plugins: Registry = field(factory=Registry, repr=False)
    _rows: dict[str, Rows] = field(factory=dict, repr=False)
    _examples: dict[str, tuple[Example, ...]] = field(factory=dict, repr=False)
    _shots: dict[str, tuple[Shot, ...]] = field(factory=dict, repr=False)

    @property
    def version(self) -> int:
        return self.spec.version

    @property
    def kind(self) -> str:
        return self.spec.kind

    @property
    def samples_path(self) -> str:
        return os.path.join(self.folder, "samples.jsonl")

    @property
    def stop(self) -> list[str]:
        """The stop strings of this mode: with a chain of thought, those that `cot` declares in place of the task's."""
        cot = self._reasoning()
        return list(self.spec.generation.stop if cot is None or cot.stop is None else cot.stop)

    @property
    def max_tokens(self) -> int:
        """How many tokens an output may have, in this mode."""
        cot = self._reasoning()
        return self.spec.generation.max_tokens if cot is None or cot.max_tokens is None else cot.max_tokens

    def _reasoning(self) -> CotSpec | None:
        return self.spec.cot if self.cot != "off" else None

    def rows(self, split: str) -> Rows:
        """The split's raw rows, fetched once."""
        if split not in self._rows:
            if self.data == "samples":
                self._rows[split] = sample_rows(self.dataset, self.samples_path, split)
            elif self._golden_stand_in(split):
                golden = sample_rows(self.dataset, self.samples_path, split)
                self._rows[split] = part_of_golden(golden, evaluated=split == self.spec.split)
            else:
                self._rows[split] = fetch_rows(self.dataset, split)
        return self._rows[split]

    def has_rows(self, split: str) -> bool:
        """Whether a split's rows are at hand already."""
        return split in self._rows

    def _golden_stand_in(self, split: str) -> bool:
        return self.data == "twin" and local_source(self.dataset, split) is None

    def examples(self, split: str, limit: int | None = None) -> tuple[Example, ...]:
        """The split's examples, the first `limit` of them. Raises DataError, HookError or OfflineError."""
        if split not in self._examples:
            rows = self.rows(split).rows
            self._examples[split] = tuple(self.example(row, number, split) for number, row in enumerate(rows))
        return self._examples[split] if limit is None else self._examples[split][:limit]

    def example(self, row: Row, number: int, split: str) -> Example:
        """One row as an Example. number: its place in the split, which errors name."""
        fields = dict(row)
        if self.plugin is not None and self.plugin.has("example"):
            fields |= without_nan(self.plugin.call("example", dict(row), row=number))
        try:
            return self._bind(fields, f"{split}-{number}")
        except DataError as error:
            place = self._rows[split].place(number) if split in self._rows else ""
            where = f"task {self.name!r}, split {split!r}, row {number}{place}"
            raise DataError(f"{where}: {error}; the row's fields: {', '.join(sorted(fields))}") from error

    def _bind(self, fields: JsonObject, item_id: str) -> Example:
        spec, cot = self.spec, self._reasoning()
        cluster = Template(spec.cluster).render(fields) if spec.cluster else None
        if spec.kind == "choice":
            options = options_of(spec, fields)
            choices, gold = options.texts, gold_of(spec, fields, options)
            rest = Template(spec.continuation).render(fields) if spec.continuation is not None else None
            answer = choices[gold] if rest is None else rest
            if not answer:
                raise DataError("continuation: the text after the choice is empty, so there is nothing to score")
            return Example(item_id, fields, answer, None, choices, gold, (answer,), cluster, rest)
        plain = Template(spec.answer).render(fields) if spec.answer is not None else None
        if cot is not None or plain is None:
            assert spec.cot is not None
            marked = Template(spec.cot.answer).render(fields)
        else:
            marked = plain
        reasoning = None if cot is None else _reasoning_of(cot, fields)
        if spec.references is not None:
            references = texts_at(fields, spec.references, "references")
            if not references:
                raise DataError(f"references: {spec.references!r} is an empty list")
        else:
            references = (plain if plain is not None else Target(marked, reasoning).text,)
        return Example(item_id, fields, marked, reasoning, references=references, cluster=cluster)

    def prompt(self, example: Example, choice: int | None = None) -> Prompt:
        """What a model is asked for an example in this form, shots included.

        choice: whose prompt, where each choice has its own (a task with `continuation`); the gold one's unless given.
        """
        spec = self.spec.prompt
        shots = self.shots(example)
        user, inputs = self._asked(example, choice)
        system = self._render(spec.system, example.fields, example)
        return Prompt(
            user,
            system,
            shots,
            self._prefix(example),
            spec.delimiter,
            inputs,
            example.reasoning is not None,
            self.spec.fewshot.delimiter,
        )

    def render(self, format: Format, tokenizer: Tokenizer, example: Example, choice: int | None = None) -> Rendered:
        """The prompt of an example, written down, by what the task declares for the format's kind.

        Raises DataError naming the item where the format can't say it.
        """
        prompt = self.in_format(format).prompt(example, choice)
        with self._told_of(example, prompt.inputs):
            return format.render(prompt, tokenizer)

    def question(self, example: Example) -> str:
        """The user's part of a prompt, without the shots before it."""
        return self._asked(example)[0]

    def _asked(self, example: Example, choice: int | None = None) -> tuple[str, JsonObject]:
        fields = dict(example.fields)
        if example.continuation is not None:
            which = example.gold if choice is None else choice
            fields["choice"] = example.choices[which or 0]
        spec = self.spec.prompt
        user = self._render(spec.user, fields, example)
        cot = self._reasoning()
        asks = cot.instruction if cot is not None and self.cot == "zero" else ""
        with self._told_of(example, fields):
            inputs = inputs_of(spec, fields)
        if asks:
            user, inputs = f"{user}\n{asks}", {**inputs, "how_to_answer": asks}
        return user, inputs

    def _render(self, source: str, fields: Mapping[str, object], example: Example) -> str:
        with self._told_of(example, fields):
            return Template(source).render(fields)

    @contextmanager
    def _told_of(self, example: Example, fields: Mapping[str, object]) -> Iterator[None]:
        """Puts task and item before what a row lacks."""
        try:
            yield
        except DataError as error:
            there = ", ".join(sorted(fields))
            raise DataError(f"task {self.name!r}, item {example.id!r}: {error}; the row's fields: {there}") from error

    def shots(self, example: Example) -> tuple[Shot, ...]:
        """The worked examples of an example: the same for every item, or for every item of its group (`same`)."""
        group = self.shot_group(example) if self.shot_count else ""
        if group not in self._shots:
            of = group if self.spec.fewshot.same else None
            self._shots[group] = tuple(Shot(*self._shot_parts(shown)) for shown in self._shot_examples(of))
        return self._shots[group]

    def shot_group(self, example: Example) -> str:
        """The example's value of the field that its shots share with it; '' where all items have the same shots."""
        if self.spec.fewshot.same is None:
            return ""
        with self._told_of(example, example.fields):
            return str(field_at(example.fields, self.spec.fewshot.same, "fewshot.same"))

    def _shot_parts(self, shown: Example) -> tuple[str, Target, JsonObject, str | None]:
        user, inputs = self._asked(shown)
        prefix = self._prefix(shown)
        return user, self.target(shown), inputs, None if prefix == self.spec.prompt.prefix else prefix

    def prompt_opening(self, example: Example) -> str:
        """What the prompt itself writes of the answer, with the delimiter behind it; '' where it opens none."""
        prefix = self._prefix(example)
        return prefix + self.spec.prompt.delimiter if prefix else ""

    def _prefix(self, example: Example) -> str:
        spec = self.spec.prompt
        return self._render(spec.prefix, example.fields, example) if isinstance(spec, FormPromptSpec) else spec.prefix

    @property
    def shot_count(self) -> int:
        """How many worked examples a prompt has; if golden rows stand in, at most half of these."""
        if self.cot == "zero":
            return 0
        own, few = self._own_shots(), self.spec.fewshot
        n = self.n_shots if self.n_shots is not None else few.n if own is None else len(own)
        if n and own is None and self._golden_stand_in(few.split):
            return min(n, len(self.rows(few.split).rows) // 2)  # The others are left to train on.
        return n

    @property
    def shot_split(self) -> str | None:
        """The split that shots are taken from, or None if there are none, or the declaration holds them itself."""
        return self.spec.fewshot.split if self.shot_count and self._own_shots() is None else None

    def _own_shots(self) -> list[JsonObject] | None:
        cot = self._reasoning()
        return cot.shots if cot is not None and self.cot == "few" else None

    def _shot_examples(self, group: str | None) -> Sequence[Example]:
        n, few = self.shot_count, self.spec.fewshot
        if not n:
            return ()
        own = self._own_shots()
        if own is not None:
            if n > len(own):
                raise DataError(f"task {self.name!r}: {n} shots are asked for, but cot.shots has {len(own)}")
            return [self.example(row, number, "cot.shots") for number, row in enumerate(own[:n])]
        if group is None:
            there = self.examples(few.split, few.skip + n)[few.skip :]
        else:
            alike = [one for one in self.examples(few.split) if self.shot_group(one) == group]
            there = tuple(alike[few.skip : few.skip + n])
        if len(there) < n and not self._golden_stand_in(few.split):
            of = f" with {few.same} {group!r}" if group is not None else ""
            after = f" after the first {few.skip}" if few.skip else ""
            have = f"split {few.split!r} has {len(there)} rows{of}{after}"
            raise DataError(f"task {self.name!r}: {n} shots are asked for, but {have}")
        return there

    def target(self, example: Example) -> Target:
        """The whole target of an example: reasoning and answer, or the gold choice. Shots and training show it."""
        return Target(example.answer, example.reasoning)

    def answer(self, example: Example) -> str:
        """The target as bare text."""
        return self.target(example).text

    def score(self, example: Example, output: Output) -> tuple[Score, ...]:
        """Every metric's values for one output; of a pooled metric, those of this item alone."""
        values: dict[str, float] = {}
        for scorer in self.scorers:
            values |= scorer.score(*self.judged(scorer, example, output))
        return tuple(Score(name, float(value)) for name, value in values.items())

    def judged(self, scorer: Scorer, example: Example, output: Output) -> tuple[Example, Output]:
        """What a scorer is handed: the extracted answer of a chain of thought, the text whose likelihoods these are."""
        if example.continuation is not None:
            return evolve(example, choices=(example.continuation,) * len(example.choices)), output
        cot, form = self._reasoning(), self.spec.formats.get(self.form)  # type: ignore[call-overload]
        pattern = (cot.extract if cot is not None else None) or (form.extract if form is not None else None)
        if pattern is None or scorer.kind != "text" or scorer.reads_whole:
            return example, output
        answer = extracted(pattern, output.text)
        return example, output if answer is None else evolve(output, text=answer)

    def digest(self, format: Format) -> str:
        """sha256 over task.yaml, plugin.py, the format's and metrics' versions and the data set's declaration."""
        bound = self.in_format(format)
        if bound is not self:
            return bound.digest(format)
        digest = hashlib.sha256()
        for name in ("task.yaml", "plugin.py"):
            path = os.path.join(self.folder, name)
            if os.path.exists(path):
                digest.update(name.encode() + b"\0" + bytes.fromhex(source_sha256(path)))
        parts = {
            "format": [format.name, format.version],
            "metrics": [[scorer.name, scorer.version] for scorer in self.scorers],
            "dataset": self.dataset.spec.as_digested(),
            "few-shot": self.spec.fewshot.model_dump(mode="json") | {"n": self.shot_count},
            "cot": [self.cot, self.max_tokens],
            "generation": self.spec.generation.model_dump(mode="json"),
        } | ({} if self.form == "completion" else {"form": self.declared_form()})
        digest.update(json.dumps(parts, sort_keys=True).encode())
        return digest.hexdigest()

    def in_format(self, format: Format) -> Task:
        """The same task bound to what it declares for the format's kind: prompt, answer, stops, program, extraction.

        The stops of bare completion hold there alone: "\\ndef" ends a completion, and would cut a chat answer at its
        import line. Raises ValueError for a task that is bound to another kind.
        """
        if format.kind == self.form:
            return self
        if self.form != "completion":
            raise ValueError(f"task {self.name!r} is bound to formats of kind {self.form}, not {format.kind}")
        spec = self.spec
        own = spec.formats.get(format.kind) or FormSpec()  # type: ignore[call-overload]
        changes: dict[str, Any] = {"generation": spec.generation.model_copy(update={"stop": own.stop})}
        if spec.cot is not None:
            changes["cot"] = spec.cot.model_copy(update={"stop": None})
        if own.prompt is not None:
            changes["prompt"] = own.prompt
        if own.answer is not None:
            changes["answer"] = own.answer
        if own.program is not None and spec.code is not None:
            changes["code"] = spec.code.model_copy(update={"program": own.program})
        bound = evolve(self, spec=spec.model_copy(update=changes), form=format.kind)
        if own.prompt is None and own.answer is None:
            return bound
        # What was worked out of another prompt or answer must not stay; rows that are at hand aren't fetched again.
        at_hand = {split: tuple(map(bound.rebound, rows)) for split, rows in self._examples.items()}
        return evolve(bound, examples=at_hand, shots={})

    def declared_form(self) -> JsonObject:
        """What the task declares for the kind of format that it is bound to, as plain data."""
        form = self.spec.formats.get(self.form)  # type: ignore[call-overload]
        return {self.form: form.model_dump(mode="json") if form is not None else None}

    def rebound(self, example: Example) -> Example:
        """An example that was made before the task was bound to a kind of format, as it is in this form."""
        form = self.spec.formats.get(self.form)  # type: ignore[call-overload]
        return example if form is None or form.answer is None else self._bind(dict(example.fields), example.id)

    def with_shots(self, n: int | None) -> Task:
        """The same task with another number of shots; None leaves it as declared. Raises UsageError."""
        if n is None or n == self.shot_count:
            return self
        few = self.spec.fewshot
        if n and self.cot == "zero":
            raise UsageError(f"task {self.name!r}: --cot zero asks by an instruction and has no shots; use --cot few")
        if n and self._own_shots() is None:
            if few.split == self.spec.split:
                raise UsageError(f"task {self.name!r} declares no few-shot split apart from the one that is evaluated")
            if few.split not in self.dataset.spec.split_names:
                raise UsageError(f"task {self.name!r} has no split {few.split!r} to take shots from")
        return evolve(self, n_shots=n, shots={})

    def with_cot(self, mode: str | None) -> Task:
        """The same task with or without its chain of thought; None leaves it as declared. Raises UsageError."""
        if mode is None or mode == self.cot:
            return self
        if self.spec.cot is None:
            raise UsageError(f"task {self.name!r} declares no chain of thought ('cot' in its task.yaml)")
        if mode == "zero" and not self.spec.cot.instruction:
            raise UsageError(f"task {self.name!r}: --cot zero needs cot.instruction in its task.yaml")
        # What was worked out in the old mode must not stay.
        return evolve(self, cot=mode, examples={}, shots={})

    def with_samples(self, n: int | None) -> Task:
        """The same task with n samples an item; 1 is greedy. None leaves it as declared.

        Metrics that need more samples than that are left out, and of several texts those that are pooled over items.
        Raises UsageError if none is left, or if the task declares no temperature to sample at.
        """
        generation = self.spec.generation
        if n is None or n == generation.samples:
            return self
        if self.kind == "choice":
            raise UsageError(f"task {self.name!r} is of kind choice: it writes nothing, so it has no samples")
        if n > 1 and generation.temperature == 0:
            raise UsageError(f"task {self.name!r} declares no generation.temperature, so its samples would be alike")
        kept = tuple(scorer for scorer in self.scorers if scores_samples(scorer, self.kind, n))
        if not kept:
            raise UsageError(f"task {self.name!r}: no metric can be computed from {n} samples")
        changes: dict[str, Any] = {"samples": n} | ({"temperature": 0.0, "top_p": 1.0} if n == 1 else {})
        spec = self.spec.model_copy(update={"generation": generation.model_copy(update=changes)})
        return evolve(self, spec=spec, scorers=kept)

    def with_max_tokens(self, n: int | None) -> Task:
        """The same task with outputs of at most n tokens, where it declares more; None leaves it as declared."""
        if n is None or self.kind == "choice":
            return self
        declared = {"generation": self.spec.generation, "cot": self.spec.cot}
        changes = {
            key: part.model_copy(update={"max_tokens": n})
            for key, part in declared.items()
            if part is not None and part.max_tokens is not None and part.max_tokens > n
        }
        return evolve(self, spec=self.spec.model_copy(update=changes)) if changes else self

    def with_metrics(self, names: Sequence[str] | None) -> Task:
        """The same task with those of its metrics alone that are named; None leaves them all. Raises UsageError."""
        if names is None:
            return self
        kept = tuple(scorer for scorer in self.scorers if scorer.name in names)
        if not kept:
            there = ", ".join(scorer.name for scorer in self.scorers)
            raise UsageError(f"task {self.name!r} has none of the metrics {', '.join(names)}; it has {there}")
        return evolve(self, scorers=kept)


def _reasoning_of(cot: CotSpec, fields: JsonObject) -> str:
    if cot.reasoning is not None:
        return Template(cot.reasoning).render(fields)
    # Rows of most data sets have none; the worked shots of the declaration do.
    return str(fields.get("reasoning") or "")
