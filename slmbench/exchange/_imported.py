"""Another tool's evaluation as a run of ours: its texts and scores as they are, its values recomputed, badged."""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import field, frozen

from slmbench.errors import FileError, Problem, SlmbenchError
from slmbench.exchange._lm_eval import NO_FILTER, LmEvalItem, LmEvalTask, loglikelihoods, read_lm_eval, texts_of
from slmbench.files import disk_errors
from slmbench.foreign import faults
from slmbench.machine import code
from slmbench.metrics import Scorer, own_scorer
from slmbench.paths import shown
from slmbench.runs import (
    AdapterPart,
    DatasetPart,
    ImportedPart,
    MetricPart,
    ModelPart,
    OpenRun,
    Pool,
    Run,
    RunIdentity,
    SampleRecord,
    ScorerPart,
    ShotsPart,
    TaskPart,
    canonical_sha256,
    comparability_key,
    finished_run,
    imported_digits,
)
from slmbench.statistics.estimate import estimate
from slmbench.values import Example, JsonObject, Output

TOOL = "lm-eval"
TOLERANCE = 1e-6
"""How far lm-eval's value may be from the mean of the scores that it wrote."""
_OURS = {
    ("acc", NO_FILTER): "accuracy",
    ("acc_norm", NO_FILTER): "accuracy_norm",
    ("acc_bytes", NO_FILTER): "accuracy_bytes",
    ("exact_match", "strict-match"): "exact_match/strict",
    ("exact_match", "flexible-extract"): "exact_match/flexible",
}
"""(metric, filter) of lm-eval -> what it is called here, if it scores every item the same."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@frozen
class Imported:
    """What an import came to. runs: as they are now. notices: what a person has to know. problems: of files."""

    runs: tuple[Run, ...]
    notices: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = field(default=())


def import_lm_eval(
    folder: str | os.PathLike[str], out: str, own: Iterable[Run] = (), *, model: str | None = None
) -> Imported:
    """Every task of lm-eval's results under a folder as a run in `<out>/runs`; those that are there are kept.

    Values are made again of the samples, and held to what lm-eval says of them. own: runs of slmbench; an imported one
    that was asked the very same as one of them (prompts, choices, targets, generation) is comparable with it, and any
    other one isn't. model: what its model is to be called.
    """
    tasks, notices, problems = read_lm_eval(Path(folder))
    by_prompts: dict[str, list[Run]] = {}
    for run in own:
        if run.record.get("imported") is None and (digest := run.record.get("prompts_sha256")):
            by_prompts.setdefault(digest, []).append(run)
    runs = []
    for task in tasks:
        if task.kind is None:
            what = task.config.get("output_type")
            notices.append(f"{task.name}: left out: {what} has no answers that could be shown or scored again")
            continue
        try:
            runs.append(_import(task, out, by_prompts, notices, model))
        except FileError as error:
            problems += error.problems
    if not tasks and not problems:
        problems.append(Problem(shown(folder), 0, 0, "has no results of lm-eval (results_<date>.json) with samples"))
    return Imported(tuple(runs), tuple(notices), tuple(problems))


def _import(
    task: LmEvalTask, out: str, by_prompts: dict[str, list[Run]], notices: list[str], called: str | None
) -> Run:
    rows = _rows(task)
    prompts = hashlib.sha256(
        "\0".join(text for item in task.items for text in _asked(item)).encode(errors="surrogatepass")
    )
    twin = _same_question(rows, task, by_prompts.get(prompts.hexdigest(), []))
    if twin is not None:
        _as_in(twin, rows)
    metrics, scorers = _metrics(task, rows, notices)
    record = _record(task, rows, scorers, prompts.hexdigest(), twin, called)
    metrics_told = [metric.model_dump(exclude_unset=True) for metric in metrics]
    folder = os.path.join(out, "runs", str(record["run_id"]))
    there = finished_run(folder, _no_pool, {"imported": record["imported"]})
    if there is not None:
        return there
    was_there = os.path.isdir(folder)
    with disk_errors(folder):
        os.makedirs(folder, exist_ok=True)
        run = OpenRun(folder, record)
        try:
            run.record["created"] = _time(task.results.date) or run.record["created"]
            results = {"metrics": metrics_told, "cost": {}, "remarks": {}}
            return run.finish([SampleRecord(**row) for row in rows], results)
        except BaseException:
            run.close()
            if not was_there:
                shutil.rmtree(folder, ignore_errors=True)
            raise


def _no_pool(scorer: str) -> Pool:
    raise ValueError(f"metric {scorer!r} is not pooled")


def _time(seconds: float | None) -> str | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None


def _asked(item: LmEvalItem) -> tuple[str, ...]:
    """The contexts of an item: one, or one a choice."""
    return item.contexts if len(set(item.contexts)) > 1 else item.contexts[:1]


def _rows(task: LmEvalTask) -> list[JsonObject]:
    split = task.config.get("test_split") or task.config.get("validation_split") or "test"
    rows: list[JsonObject] = []
    for item in task.items:
        row: JsonObject = {
            "item_id": f"{split}-{item.doc_id}",
            "epoch": 0,
            "cluster_id": None,
            "prompt": item.contexts[0],
            "prompt_sha256": hashlib.sha256(item.contexts[0].encode(errors="surrogatepass")).hexdigest(),
            "target": item.target,
            "references": [item.target],
        }
        if task.kind == "choice":
            values, choices = loglikelihoods(task, item), _choices(task, item)
            gold = _gold(item, choices)
            best = max(range(len(values)), key=values.__getitem__)
            target = item.target if gold is None else choices[gold]
            row |= {"target": target, "references": [target], "output": choices[best], "choices": choices}
            rows.append(row | {"loglikelihoods": values, "gold": gold, "finish_reason": "scored", "scores": {}})
            continue
        rows += [
            row | {"epoch": epoch, "output": text, "scores": {}} for epoch, text in enumerate(texts_of(task, item))
        ]
    return rows


def _choices(task: LmEvalTask, item: LmEvalItem) -> list[str]:
    """The options of an item without the delimiter before them."""
    if len(item.continuations) != len(item.contexts) or not item.continuations:
        said = "a text to score in every request of a multiple choice"
        raise faults(task.samples_path, [(f"arguments (doc_id {item.doc_id})", len(item.continuations), said)])
    delimiter = task.config.get("target_delimiter")
    if isinstance(delimiter, str) and all(text.startswith(delimiter) for text in item.continuations):
        return [text[len(delimiter) :] for text in item.continuations]
    return list(item.continuations)


def _gold(item: LmEvalItem, choices: Sequence[str]) -> int | None:
    """Index of the right option; None if lm-eval's target doesn't say it in a way that has one meaning."""
    target = item.target
    if target in choices:
        return choices.index(target) if choices.count(target) == 1 else None
    return int(target) if target.isascii() and target.isdigit() and int(target) < len(choices) else None


def _as_in(twin: Run, rows: Sequence[JsonObject]) -> None:
    """Items are called as in the run that was asked the same, which also knows their clusters and right options."""
    ours: dict[str, JsonObject] = {}
    for row in twin.samples():
        ours.setdefault(row["item_id"], row)
    named = dict(zip(dict.fromkeys(row["item_id"] for row in rows), ours.values(), strict=True))
    for row in rows:
        known = named[row["item_id"]]
        row |= {"item_id": known["item_id"], "cluster_id": known.get("cluster_id")}
        if known.get("choices") and row.get("loglikelihoods"):
            best = max(range(len(row["loglikelihoods"])), key=row["loglikelihoods"].__getitem__)
            row |= {key: known.get(key) for key in ("choices", "gold", "references")}
            row["output"] = row["choices"][best]


def _same_question(rows: Sequence[JsonObject], task: LmEvalTask, candidates: Sequence[Run]) -> Run | None:
    """The run of ours that was asked the very same: prompts, choices, targets, and how texts were to be written."""
    # Options that each have a prompt of their own stand in the prompts, whose digest is the same.
    apart = len(set(task.items[0].contexts)) > 1

    def asked_of(row: JsonObject) -> tuple[str, object]:
        choices = tuple(row.get("choices") or ())
        return row.get("target") or "", len(choices) if apart else choices

    asked = {row["item_id"]: asked_of(row) for row in rows}
    for run in candidates:
        if task.kind == "generate" and not _same_settings(task, run):
            continue
        ours: dict[str, tuple[str, object]] = {}
        for row in run.samples():
            ours.setdefault(row["item_id"], asked_of(row))
        if list(asked.values()) == list(ours.values()):
            return run
    return None


def _same_settings(task: LmEvalTask, run: Run) -> bool:
    theirs, ours = task.items[0].settings, run.record.get("generation") or {}
    keys = ("until", "do_sample", "temperature", "max_gen_toks")
    return not any(theirs.get(key) != ours.get(key) for key in keys)


def _metrics(
    task: LmEvalTask, rows: Sequence[JsonObject], notices: list[str]
) -> tuple[list[MetricPart], dict[str, str]]:
    """(the metrics, scorer -> its version), after their scores have been put into the rows.

    A value that is no mean of its items' scores can't be recomputed, and is left out with a notice.
    """
    names = list(dict.fromkeys(key for item in task.items for key in item.scores))
    told = [tuple(key.split(",", 1)) for key in task.results.results[task.name] if "," in key and "_stderr," not in key]
    up = task.results.higher_is_better.get(task.name, {})
    metrics, scorers = [], {}
    for key in dict.fromkeys([*told, *names]):
        metric, filter = key[0], key[1]
        scores = [item.scores.get((metric, filter)) for item in task.items]
        value = task.value(metric, filter)
        known = [score for score in scores if score is not None]
        if value is None or len(known) < len(scores):
            notices.append(
                f"{task.name}: {metric},{filter} left out: not every item has a score of it, and the run a value"
            )
            continue
        mean = math.fsum(known) / len(known)
        if abs(mean - value) > TOLERANCE * max(1.0, abs(mean)):
            notices.append(
                f"{task.name}: {metric},{filter} left out: it is {value!r}, and the mean of its items' scores {mean!r}"
            )
            continue
        scorer = _ours(task, rows, metric, filter, known)
        name = scorer.name if scorer is not None else metric if filter == NO_FILTER else f"{metric}/{filter}"
        by_item = dict(zip(dict.fromkeys(row["item_id"] for row in rows), known, strict=True))
        for row in rows:
            row["scores"] = {**row["scores"], name: by_item[row["item_id"]]}
        within = all(0 <= score <= 1 for score in known)
        bounds = scorer.range if scorer is not None else (0.0, 1.0) if within else None
        made = estimate(known, [row["cluster_id"] for row in rows if row["epoch"] == 0], bounds)
        version = scorer.version if scorer is not None else str(task.results.lm_eval_version)
        whose = scorer.name if scorer is not None else f"{TOOL}/{name}"
        scorers[whose] = version
        higher = scorer.higher_is_better if scorer is not None else up.get(metric) is not False
        part = MetricPart(
            name=name,
            scorer=whose,
            version=version,
            pooled=False,
            value=made.value,
            se=made.stderr,
            ci_lo=made.ci_low,
            ci_hi=made.ci_high,
            method=made.method,
            n=made.n,
            n_error=0,
            higher_is_better=higher,
            range=None if bounds is None else list(bounds),
            chance=_chance(rows) if scorer is not None and scorer.kind == "choice" else None,
        )
        metrics.append(part)
    if not metrics:
        raise FileError([Problem(shown(task.path), 0, 0, f"task {task.name!r} has no metric that its samples hold")])
    return metrics, scorers


def _chance(rows: Sequence[JsonObject]) -> float:
    return math.fsum(1 / len(row["choices"]) for row in rows) / len(rows)


def _ours(
    task: LmEvalTask, rows: Sequence[JsonObject], metric: str, filter: str, scores: Sequence[float]
) -> Scorer | None:
    """Our metric of that meaning, if it gives every item the score that lm-eval gave."""
    scorer = own_scorer(_OURS.get((metric, filter), ""))
    if scorer is None or any(row["epoch"] for row in rows):
        return None
    for row, score in zip(rows, scores, strict=True):
        choices = tuple(row.get("choices") or ())
        example = Example(row["item_id"], {}, row["target"], None, choices, row.get("gold"), (row["target"],))
        output = Output(text=row["output"], loglikelihoods=tuple(row.get("loglikelihoods") or ()))
        try:
            if scorer.score(example, output)[scorer.name] != score:
                return None
        except (ValueError, SlmbenchError):
            return None
    return scorer


def _record(
    task: LmEvalTask,
    rows: Sequence[JsonObject],
    scorers: dict[str, str],
    prompts: str,
    twin: Run | None,
    called: str | None,
) -> JsonObject:
    results, config = task.results, task.config
    model = results.config
    arguments = model.arguments
    name = str(arguments.get("pretrained") or arguments.get("model") or results.model_name or model.model or "unknown")
    short = called or task.ours.model or (os.path.basename(os.path.abspath(name)) if os.path.isabs(name) else name)
    held = next((key for key in ("load_in_4bit", "load_in_8bit") if str(arguments.get(key)) == "True"), None)
    held = held or task.ours.quantization
    packed: JsonObject = {"quantization": held} if held else {}
    items = list(dict.fromkeys(row["item_id"] for row in rows))
    shots = results.n_shot.get(task.name)
    count = results.n_samples.get(task.name)
    cut = count is not None and count.effective < count.original
    limit = task.ours.limit if task.ours.limit is not None else len(items) if cut else None
    chat = bool(results.chat_template)
    settings = task.items[0].settings if task.kind == "generate" else {}
    peft = str(arguments["peft"]) if arguments.get("peft") else None
    own = twin.record if twin is not None else None
    split = config.get("test_split") or config.get("validation_split")
    identity = RunIdentity(
        seed=model.random_seed,
        limit=limit,
        model=ModelPart(
            name=short,
            id=name,
            revision=model.model_sha or None,
            dtype=str(model.model_dtype).removeprefix("torch.") if model.model_dtype else None,
            parameters=model.model_num_parameters if (model.model_num_parameters or -1) > 0 else None,
            **packed,
        ),
        adapter=AdapterPart(name=os.path.basename(os.path.abspath(peft))) if peft else None,
        chat_template_sha256=results.chat_template_sha if chat else None,
        format=own["format"] if own is not None else task.ours.format or ("chat" if chat else "plain"),
        task=TaskPart(
            id=own["task"]["id"] if own is not None else task.name,
            version=own["task"].get("version") if own is not None else _version(results.versions.get(task.name)),
            digest=_sha256(results.task_hashes.get(task.name)),
            kind=task.kind,
        ),
        dataset=DatasetPart(
            id=" ".join(str(config[key]) for key in ("dataset_path", "dataset_name") if config.get(key)) or None,
            split=own["dataset"].get("split") if own is not None else str(split) if split else None,
            source="imported",
            item_ids_sha256=canonical_sha256(items),
            items_sha256=own["dataset"].get("items_sha256") if own is not None else _items_sha256(task),
            n=len(items),
        ),
        fewshot=ShotsPart(n=shots if shots is None or shots >= 0 else None),
        cot=own.get("cot") if own is not None else None,
        prompts_sha256=prompts,
        generation=settings,
        scorer=ScorerPart(id="+".join(scorers), version="+".join(scorers.values())),
        engine=f"{TOOL}/{model.model}",
        engine_version=f"{TOOL}-{results.lm_eval_version}/transformers-{results.transformers_version}",
        batch_size=model.batch_size,
    )
    source = ImportedPart(
        tool=TOOL,
        version=results.lm_eval_version,
        file=task.path.name,
        sha256=task.sha256,
        samples_sha256=task.samples_sha256,
        same_prompts_as=None if twin is None else twin.run_id,
    )
    imported = source.model_dump()
    digest = imported_digits(imported, task.name, called)
    who = re.sub(r"[^A-Za-z0-9._+-]", "-", short + (f"+{os.path.basename(os.path.abspath(peft))}" if peft else ""))
    named = re.sub(r"[^A-Za-z0-9._+-]", "-", task.name)
    key = comparability_key(own) if own is not None else _key(task, settings)
    facts = {"comparability_key": key, "imported": imported, "code": code()}
    facts["packages"] = {"lm_eval": str(results.lm_eval_version), "transformers": str(results.transformers_version)}
    return {
        "run_id": f"{who.lstrip('.-')[:100] or 'model'}__{named.lstrip('.-')[:60]}__{digest}",
        **identity.as_json(),
        **facts,
    }


def _key(task: LmEvalTask, settings: JsonObject) -> str:
    """What two imported runs have alike if they were asked the same. No run of ours has such a key."""
    results = task.results
    # Where the rows lay, and which model was called, is no difference.
    config = {key: value for key, value in task.config.items() if key not in ("metadata", "dataset_kwargs")}
    asked = [TOOL, task.name, results.versions.get(task.name), config, results.n_shot.get(task.name)]
    asked += [bool(results.chat_template), results.fewshot_as_multiturn, results.system_instruction_sha, settings]
    return canonical_sha256([*asked, _items_sha256(task)])


def _items_sha256(task: LmEvalTask) -> str:
    return canonical_sha256([[item.doc_id, *item.identity, item.target] for item in task.items])


def _version(version: Any) -> int | str | None:
    if isinstance(version, float) and version.is_integer():
        return int(version)
    return version if version is None or isinstance(version, int) else str(version)


def _sha256(text: str | None) -> str | None:
    return text if text is not None and _SHA256.fullmatch(text) else None
