"""Saved answers scored again: no model, the same outputs, a new record that points to the old one."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import starmap
from typing import Any

from attrs import frozen

from slmbench.errors import DataError, FileError, Problem
from slmbench.evaluation._estimates import metric_parts
from slmbench.evaluation._harness import mean_scores, most_remarks, scored_choices
from slmbench.evaluation._identity import items_sha256
from slmbench.evaluation._judge import ReadAnswer, judge_code, read_answer, sandbox_record
from slmbench.evaluation._targets import ScoredTarget
from slmbench.files import disk_errors
from slmbench.formats import Format
from slmbench.machine import code, packages
from slmbench.metrics import Scorer, own_scorer
from slmbench.paths import shown
from slmbench.runs import (
    NOT_IN_FORMAT,
    SAMPLES,
    OpenRun,
    Run,
    RunIdentity,
    SampleRecord,
    ScorerPart,
    canonical_sha256,
    comparability_key,
    comparability_keys,
    finished_run,
    rescored_digits,
    sandbox_told,
)
from slmbench.sandbox import Sandbox
from slmbench.task import Task
from slmbench.values import Example, JsonObject, Output

_NO_NAME = re.compile(r"[^A-Za-z0-9._+-]")


@frozen
class SavedAnswers:
    """A finished run's outputs. items: item id -> its rows of samples.jsonl, one an epoch, both in the run's order."""

    run: Run
    items: Mapping[str, Sequence[JsonObject]]

    @property
    def kind(self) -> str:
        """generate, choice or code; of a record that doesn't say it, by its first sample."""
        told = self.run.record["task"].get("kind")
        if told in ("generate", "choice", "code"):
            return str(told)
        first = next(iter(self.items.values()))[0]
        return "choice" if first.get("loglikelihoods") else "code" if first.get("verdict") else "generate"

    @property
    def has_targets(self) -> bool:
        """Whether each row says how likely the model found its target."""
        return all(row.get("target_loglikelihood") is not None for rows in self.items.values() for row in rows)

    @property
    def epochs(self) -> int:
        """Samples of each item."""
        return len(next(iter(self.items.values())))

    @property
    def limit(self) -> int | None:
        limit: int | None = self.run.record.get("limit")
        return limit


def saved_answers(run: Run) -> SavedAnswers:
    """The outputs of a run, its samples' digest checked first. Raises FileError for those that are no run's."""
    items: dict[str, list[JsonObject]] = {}
    known = set(SampleRecord.model_fields)
    problems: list[Problem] = []
    path = shown(os.path.join(run.folder, SAMPLES))
    for number, sample in enumerate(run.samples(), 1):
        rows = items.setdefault(sample["item_id"], [])
        if sample.get("epoch", 0) in {row["epoch"] for row in rows}:
            said = f"item_id {sample['item_id']!r} appears more than once; an item counts once"
            problems.append(Problem(path, number, 1, said))
        rows.append({"epoch": 0, "cluster_id": None, **{key: value for key, value in sample.items() if key in known}})
    if not items:
        problems.append(Problem(path, 0, 0, "holds no sample, so there is nothing to score"))
    elif len({len(rows) for rows in items.values()}) > 1:
        problems.append(Problem(path, 0, 0, "not every item was run in the same epochs"))
    if problems:
        raise FileError(problems)
    return SavedAnswers(run, items)


def needs_rows(saved: SavedAnswers, scorers: Sequence[Scorer], *, keep_verdicts: bool) -> bool:
    """Whether the data set's rows are read: tests of programs stand there, and what a plugin's metric may ask for."""
    return (saved.kind == "code" and not keep_verdicts) or any(own_scorer(one.name) is None for one in scorers)


def rows_answered(saved: SavedAnswers, task: Task) -> tuple[Example, ...]:
    """The task's examples that a run's answers are to, in its order. Raises DataError if they have changed since."""
    record = saved.run.record
    at_hand = {example.id: example for example in task.examples(task.spec.split)}
    gone = [item for item in saved.items if item not in at_hand]
    there = tuple(at_hand[item] for item in saved.items if item in at_hand)
    digest = record["dataset"].get("items_sha256")
    if not gone and (digest is None or digest == items_sha256(task, there)):
        return there
    what = f"item {gone[0]!r} is not there" if gone else "what the task makes of its rows has changed"
    raise DataError(
        f"{saved.run.run_id}: the rows of task {task.name!r} here are not those that were answered ({what}), so its "
        "programs and its plugin's metrics can't be judged again; evaluate it again (`slmbench eval`), or score it by "
        "metrics that need no rows (--metrics, --keep-verdicts)"
    )


def rescore(
    saved: SavedAnswers,
    scorers: Sequence[Scorer],
    style: Format,
    parent: str,
    *,
    task: Task | None = None,
    examples: Sequence[Example] | None = None,
    sandbox: Sandbox | None = None,
) -> Run:
    """A run's answers under other metrics, as a run of its own in `<parent>/<run id>`; one that is there is kept.

    Who answered what, cost and hardware are the old record's; code and packages are those that score now. task: as it
    is declared here, bound to the format; what it extracts from an answer counts. None for one that isn't known here.
    examples: its rows, if they are needed (`needs_rows`). sandbox: what programs are run in again; None keeps their
    verdicts. Raises SlmbenchError's children; nothing is left of a call that fails.
    """
    record = _identity(saved, scorers, style, task, sandbox)
    digest = rescored_digits(record, code()["version"])
    # A record may say that it is called "../../x".
    who = _NO_NAME.sub("-", saved.run.run_id.rpartition("__")[0] or saved.run.run_id).lstrip(".-")
    run_id = f"{who[:150] or 'run'}__{digest}"
    folder = os.path.join(parent, run_id)
    pools = {scorer.name: scorer.pool for scorer in scorers if scorer.pool is not None}
    there = finished_run(folder, pools.__getitem__, record)
    if there is not None:
        return there
    if examples is None:
        examples = [_example(rows[0], saved, task) for rows in saved.items.values()]
    answers = _answers(saved, examples, style, task, sandbox)
    rows, remarks = _scored(saved, scorers, examples, answers, style, task)
    first = [row for row in rows if row["epoch"] == 0]
    metrics, pseudo = metric_parts(scorers, examples, first)
    old = saved.run.record
    facts: JsonObject = {key: old[key] for key in ("hardware", "no_texts", "stopped", "imported") if key in old}
    facts |= {"run_id": run_id, **record, "code": code(), "packages": packages()}
    was_there = os.path.isdir(folder)
    with disk_errors(folder):
        os.makedirs(folder, exist_ok=True)
        open_run = OpenRun(folder, facts)
        try:
            results = {"metrics": [metric.model_dump() for metric in metrics], "cost": old["cost"], "remarks": remarks}
            return open_run.finish([SampleRecord(**row) for row in rows], results, pseudo)
        except BaseException:
            open_run.close()
            if not was_there:
                shutil.rmtree(folder, ignore_errors=True)
            raise


def _identity(
    saved: SavedAnswers, scorers: Sequence[Scorer], style: Format, task: Task | None, sandbox: Sandbox | None
) -> JsonObject:
    """What the new record says beside its results: the old identity, who scores now, and where the answers are from."""
    old = saved.run.record
    identity = {key: old[key] for key in RunIdentity.model_fields if key in old}
    part = ScorerPart(
        id="+".join(scorer.name for scorer in scorers),
        version="+".join(scorer.version for scorer in scorers),
        weights={one.name: [*one.values, one.weights_sha256()] for one in scorers if one.weights_sha256},
    )
    identity["scorer"] = part.model_dump(exclude_unset=True)
    if task is not None and sandbox is not None and (ran := sandbox_record(task, sandbox)) is not None:
        identity["sandbox"] = ran.model_dump(exclude_unset=True)
    source = {
        "run_id": old["run_id"],
        "record_sha256": old.get("record_sha256"),
        "samples_sha256": old["samples_sha256"],
    }
    source |= {"code": old["code"]} if old.get("code") else {}
    source |= {"verdicts": "kept" if sandbox is None else "run"} if saved.kind == "code" else {}
    return {**identity, "comparability_key": _key(old, identity, style, task), "rescored_of": source}


def _key(old: JsonObject, identity: JsonObject, style: Format, task: Task | None) -> str:
    """The old run's key, unless its answers are read in another way now."""
    key = comparability_key(old, judged=identity.get("sandbox"))
    if task is None:
        return key
    beside: list[Any] = [[style.version, task.declared_form()]] if style.fenced or style.plugin else []
    beside += sandbox_told(identity.get("sandbox"))
    changed: list[Any] = [] if task.version == old["task"].get("version") else ["as of version", task.version]
    if beside and comparability_keys(identity, beside)[0] != key:
        changed += beside
    return canonical_sha256([key, *changed]) if changed else key


def _example(row: JsonObject, saved: SavedAnswers, task: Task | None) -> Example:
    """An item as far as a saved row tells it."""
    references = tuple(row.get("references") or ())
    continued = task is not None and task.spec.continuation is not None
    return Example(
        row["item_id"],
        {},
        row.get("target") or "",
        "" if saved.run.record.get("cot") in ("zero", "few") else None,
        tuple(row.get("choices") or ()),
        row.get("gold"),
        references,
        row.get("cluster_id"),
        references[0] if continued and references else None,
    )


def _answers(
    saved: SavedAnswers, examples: Sequence[Example], style: Format, task: Task | None, sandbox: Sandbox | None
) -> list[list[ReadAnswer]]:
    """What each output says, by item and epoch; programs are run again in a sandbox."""
    texts = [[_text(row, saved) for row in rows] for rows in saved.items.values()]
    if task is not None and sandbox is not None:
        # An object's value stands a blank behind its key; no other format puts one before a program.
        delimiter = " " if style.kind == "object" else ""
        return judge_code(task, examples, style, sandbox, delimiter)(texts, range(len(texts)))
    if saved.kind == "choice":
        return [[ReadAnswer(text) for text in one] for one in texts]
    read = [[read_answer(style, example, text) for text in one] for one, example in zip(texts, examples, strict=True)]
    if saved.kind != "code":
        return read
    return [
        [
            ReadAnswer(one.text, one.fault, row.get("verdict") or "", row.get("verdict_detail") or "")
            for one, row in zip(*both, strict=True)
        ]
        for both in zip(read, saved.items.values(), strict=True)
    ]


def _text(row: JsonObject, saved: SavedAnswers) -> str:
    text = row.get("output")
    if not isinstance(text, str):
        path = shown(os.path.join(saved.run.folder, SAMPLES))
        raise FileError([Problem(path, 0, 0, f"item {row['item_id']!r} has no output, so there is nothing to score")])
    return text


def _beside_target(output: Output, row: JsonObject) -> Output:
    likely = row.get("target_loglikelihood")
    return output if likely is None else ScoredTarget(likely, row.get("target_bytes") or 0).beside(output)


def _scored(
    saved: SavedAnswers,
    scorers: Sequence[Scorer],
    examples: Sequence[Example],
    answers: Sequence[Sequence[ReadAnswer]],
    style: Format,
    task: Task | None,
) -> tuple[list[JsonObject], dict[str, int]]:
    """(the rows with their new scores, the run's remarks)."""
    several = saved.kind == "generate" and saved.epochs > 1
    if several:  # Each text has a score of its own, and an item the mean of its texts'.
        outputs = [
            _beside_target(Output(text=answer.text), row)
            for rows, one in zip(saved.items.values(), answers, strict=True)
            for row, answer in zip(rows, one, strict=True)
        ]
        examples = [example for example, one in zip(examples, answers, strict=True) for _ in one]
    else:
        outputs = [
            scored_choices(example, tuple(map(float, rows[0].get("loglikelihoods") or ())), style)
            if saved.kind == "choice"
            else _beside_target(
                Output(text=one[0].text, verdicts=tuple(answer.verdict for answer in one if answer.verdict)), rows[0]
            )
            for example, rows, one in zip(examples, saved.items.values(), answers, strict=True)
        ]
    scores: list[dict[str, float]] = [{} for _ in examples]
    parts: list[JsonObject] = [{} for _ in examples]
    not_in_format = f"{NOT_IN_FORMAT} {style.name}"
    remarks: Counter[str] = Counter(saved.run.record.get("remarks") or {})
    remarks[not_in_format] = sum(answer.fault != "" for one in answers for answer in one)
    for scorer in scorers:
        pairs = list(zip(examples, outputs, strict=True))
        judged = [task.judged(scorer, *pair) for pair in pairs] if task is not None else pairs
        try:
            if scorer.pool is not None and scorer.parts is not None:
                for pair, score, part in zip(judged, scores, parts, strict=True):
                    part[scorer.name] = scorer.parts(*pair)
                    score |= scorer.pool([part[scorer.name]])
            else:
                for score, found in zip(scores, scorer.scores(judged), strict=True):
                    score |= {name: float(value) for name, value in found.items()}
        except ValueError as error:
            raise DataError(f"{saved.run.run_id}: {scorer.name}: {error}") from error
        if scorer.remarks is not None:
            counted: Counter[str] = Counter()
            each = saved.epochs if several else 1
            for at in range(0, len(judged), each):
                counted.update(most_remarks(starmap(scorer.remarks, judged[at : at + each])))
            for kind, n in counted.items():
                remarks[kind] = n
    alone = [scores[at : at + saved.epochs] for at in range(0, len(scores), saved.epochs)] if several else None
    scores = scores if alone is None else [mean_scores(one) for one in alone]
    rows = []
    for at, (of_item, one, score) in enumerate(zip(saved.items.values(), answers, scores, strict=True)):
        for epoch, (row, answer) in enumerate(zip(of_item, one, strict=True)):
            kept = {key: value for key, value in row.items() if key not in ("scores", "sample_scores", "parts")}
            if saved.kind != "choice":
                kept |= {"format_fault": answer.fault or None, "verdict": answer.verdict or None}
                kept |= {"verdict_detail": answer.detail or None}
            kept |= {"scores": score} | ({"parts": parts[at]} if parts[at] else {})
            rows.append(kept if alone is None else kept | {"sample_scores": alone[at][epoch]})
    return rows, {name: n for name, n in sorted(remarks.items()) if n}
