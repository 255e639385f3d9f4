"""Our runs in lm-eval's layout: what reads lm-eval's result folders reads these too.

Layout of lm-eval 0.4.13. What a run doesn't keep isn't made up: of a log-likelihood, whether it was greedy stands as
False; the delimiter before a choice is lm-eval's default of the format; a document is its id.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from slmbench.files import disk_errors, write_together
from slmbench.runs import MetricPart, Run, SampleRecord
from slmbench.seal import canonical_sha256
from slmbench.values import JsonObject

NAMES = {
    "accuracy": ("acc", "none"),
    "accuracy_norm": ("acc_norm", "none"),
    "accuracy_bytes": ("acc_bytes", "none"),
    "exact_match/strict": ("exact_match", "strict-match"),
    "exact_match/flexible": ("exact_match", "flexible-extract"),
}
"""Our metric -> lm-eval's name and filter of it; any other one keeps its name, under the filter `none`."""
_UNSAFE = re.compile(r"[\"<>:/|\\?*\[\]\x00-\x1f]+")


def export_lm_eval(
    runs: Iterable[Run], out: str, samples_of: Callable[[Run], Sequence[JsonObject]] = Run.samples
) -> tuple[list[str], list[str]]:
    """(the files, notices): `<out>/<model>/results_<date>.json` and `samples_<task>_<date>.jsonl`.

    samples_of: a run's samples, as they are to be seen. Runs of one model under the same settings share a results file,
    as of one call of lm-eval. A task whose choices each have a prompt of their own is left out: a run keeps one.
    """
    groups: dict[str, list[dict[str, Run]]] = {}
    notices: list[str] = []
    for run in sorted(runs, key=lambda run: (str(run.record["created"]), run.run_id)):
        if why := _unsayable(samples_of(run)):
            notices.append(f"{run.run_id}: left out: {why}")
            continue
        record = run.record
        who = [record["model"]["name"], record.get("adapter"), record["model"].get("quantization")]
        how = [record.get("format"), record.get("limit"), record.get("seed"), record.get("chat_template_sha256")]
        calls = groups.setdefault(canonical_sha256([who, how]), [])
        name = str(record["task"]["id"])
        call = next((call for call in calls if name not in call), None)
        if call is None:
            calls.append(call := {})
        call[name] = run
    written: list[str] = []
    for number, call in enumerate(call for calls in groups.values() for call in calls):
        written += _write(call, out, number, samples_of)
    return written, notices


def _unsayable(samples: Sequence[JsonObject]) -> str:
    """What keeps samples from lm-eval's layout; '' for nothing."""
    first = samples[0]
    if any(row.get("loglikelihoods") and not row.get("choices") for row in samples):
        return "it has log-likelihoods of choices that it doesn't name"
    own = bool(first.get("choices")) and not set(first.get("references") or ()) <= set(first["choices"])
    return "each choice has a prompt of its own, and a run keeps one" if own else ""


def _write(
    call: Mapping[str, Run], out: str, number: int, samples_of: Callable[[Run], Sequence[JsonObject]]
) -> list[str]:
    first = next(iter(call.values())).record
    # lm-eval tells its calls apart by their microseconds.
    date = datetime.fromisoformat(str(first["created"])).astimezone(UTC) + timedelta(microseconds=number)
    stamp = date.replace(tzinfo=None).isoformat(timespec="microseconds").replace(":", "-")
    who = _who(first)
    folder = os.path.join(out, _folder(who))
    contents: dict[str, bytes] = {}
    tasks: dict[str, JsonObject] = {}
    hashes = {}
    for name, run in call.items():
        lines = list(_lines(run.record, samples_of(run)))
        hashes[name] = _sha256("".join(line["doc_hash"] + line["prompt_hash"] + line["target_hash"] for line in lines))
        text = "".join(json.dumps(line) + "\n" for line in lines)
        # One that lm-eval itself would not find by its task's name would be lost.
        contents[os.path.join(folder, f"samples_{re.sub(r'[^A-Za-z0-9_-]', '_', name)}_{stamp}.jsonl")] = text.encode()
        tasks[name] = run.record
    results = _results(tasks, who, date, hashes)
    contents[os.path.join(folder, f"results_{stamp}.json")] = json.dumps(results, indent=2).encode()
    with disk_errors(folder):
        os.makedirs(folder, exist_ok=True)
        write_together(contents)
    return list(contents)


def _model(record: JsonObject) -> str:
    """A hub id, or the model's name: a folder's path names a machine, and tools that read this take no path."""
    told = str(record["model"].get("id") or "")
    return told if "/" in told and not os.path.isabs(told) else str(record["model"]["name"])


def _who(record: JsonObject) -> str:
    adapter = record.get("adapter")
    who = _model(record)
    return f"{who}+{adapter['name']}" if adapter else who


def _folder(who: str) -> str:
    """The model's folder, as lm-eval calls it; a name of dots alone is another folder's."""
    return _UNSAFE.sub("__", who).encode(errors="replace").decode()[:200].lstrip(".") or "model"


def _results(tasks: Mapping[str, JsonObject], who: str, date: datetime, hashes: Mapping[str, str]) -> JsonObject:
    first = next(iter(tasks.values()))
    model, packages = first["model"], first.get("packages") or {}
    arguments = {"pretrained": _model(first)}
    arguments |= {"peft": first["adapter"]["name"]} if first.get("adapter") else {}
    parts = {name: _parts(record) for name, record in tasks.items()}
    return {
        "results": {name: _values(name, record, parts[name]) for name, record in tasks.items()},
        "group_subtasks": {},
        "configs": {name: _config(name, record, parts[name]) for name, record in tasks.items()},
        "versions": {name: record["task"].get("version") for name, record in tasks.items()},
        "n-shot": {name: (record.get("fewshot") or {}).get("n") or 0 for name, record in tasks.items()},
        "higher_is_better": {name: {_name(one)[0]: one.higher_is_better for one in parts[name]} for name in tasks},
        "n-samples": {
            name: {"original": record["dataset"].get("n"), "effective": record["dataset"].get("n")}
            for name, record in tasks.items()
        },
        "config": {
            "model": first.get("engine"),
            "model_args": arguments,
            "model_num_parameters": model.get("parameters"),
            "model_dtype": model.get("dtype"),
            "model_revision": model.get("revision") or "main",
            "model_sha": model.get("revision") or "",
            "batch_size": str(first.get("batch_size")),
            "batch_sizes": [],
            "device": None,
            "use_cache": None,
            "limit": first.get("limit"),
            "bootstrap_iters": 0,
            "gen_kwargs": None,
            **dict.fromkeys(("random_seed", "numpy_seed", "torch_seed", "fewshot_seed"), first.get("seed")),
        },
        "git_hash": (first.get("code") or {}).get("commit"),
        "date": date.timestamp(),
        "lm_eval_version": packages.get("lm_eval") or packages.get("lm-eval"),
        "transformers_version": packages.get("transformers"),
        "task_hashes": dict(hashes),
        "model_source": first.get("engine"),
        "model_name": who,
        "model_name_sanitized": _folder(who),
        "system_instruction": None,
        "system_instruction_sha": None,
        "fewshot_as_multiturn": first.get("format") == "chat",
        "chat_template": None,
        "chat_template_sha": first.get("chat_template_sha256"),
        "total_evaluation_time_seconds": str(sum(r["cost"].get("seconds") or 0 for r in tasks.values())),
        "slmbench": {
            name: {key: record.get(key) for key in ("run_id", "comparability_key", "record_sha256", "format", "limit")}
            | {"model": record["model"]["name"], "quantization": record["model"].get("quantization")}
            for name, record in tasks.items()
        },
    }


def _parts(record: JsonObject) -> list[MetricPart]:
    return [MetricPart.model_validate(one, extra="ignore") for one in record["metrics"]]


def _values(name: str, record: JsonObject, parts: Sequence[MetricPart]) -> JsonObject:
    found: JsonObject = {"name": name, "alias": name, "sample_len": record["dataset"].get("n")}
    for one in parts:
        metric, filter = _name(one)
        found[f"{metric},{filter}"] = one.value
        found[f"{metric}_stderr,{filter}"] = "N/A" if one.se is None or one.method == "none" else one.se
    return found


def _config(name: str, record: JsonObject, parts: Sequence[MetricPart]) -> JsonObject:
    dataset, choice = record["dataset"], record["task"].get("kind") == "choice"
    metrics = {_name(one)[0]: one.higher_is_better for one in parts}
    found: JsonObject = {
        "task": name,
        "dataset_path": dataset.get("id"),
        "test_split": dataset.get("split"),
        "target_delimiter": _delimiter(record),
        "fewshot_delimiter": "\n\n",
        "num_fewshot": (record.get("fewshot") or {}).get("n") or 0,
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": up} for metric, up in metrics.items()
        ],
        "output_type": "multiple_choice" if choice else "generate_until",
        "repeats": (record.get("generation") or {}).get("samples") or 1,
        "metadata": {"version": record["task"].get("version")},
    }
    return found if choice else found | {"generation_kwargs": _settings(record)}


def _settings(record: JsonObject) -> JsonObject:
    return {key: value for key, value in (record.get("generation") or {}).items() if key != "samples"}


def _delimiter(record: JsonObject) -> str:
    return "" if record.get("format") == "chat" else " "


def _name(one: MetricPart) -> tuple[str, str]:
    return NAMES.get(one.name, (one.name, "none"))


def _lines(record: JsonObject, samples: Sequence[JsonObject]) -> Iterable[JsonObject]:
    """The lines of a samples file: those of one filter after those of another, an item a line."""
    names: dict[str, list[tuple[str, str]]] = {}
    for part in record["metrics"]:
        metric, filter = NAMES.get(part["name"], (part["name"], "none"))
        names.setdefault(filter, []).append((part["name"], metric))
    items: dict[str, list[JsonObject]] = {}
    known = set(SampleRecord.model_fields)
    for row in samples:
        items.setdefault(row["item_id"], []).append({key: row[key] for key in row if key in known})
    for filter, metrics in names.items():
        for number, (item, rows) in enumerate(items.items()):
            yield _line(record, number, item, rows, filter, metrics)


def _line(
    record: JsonObject, number: int, item: str, rows: list[JsonObject], filter: str, metrics: list[tuple[str, str]]
) -> JsonObject:
    row = rows[0]
    doc, prompt, target = {"id": item}, row.get("prompt") or "", row.get("target") or ""
    if row.get("loglikelihoods"):
        # lm-eval's target of a multiple choice is the index of the right one.
        target = str(row.get("gold"))
        texts: list[Any] = [_delimiter(record) + choice for choice in row["choices"]]
        resps: list[Any] = [[[str(value), "False"]] for value in row["loglikelihoods"]]
        filtered: list[Any] = [[str(value), "False"] for value in row["loglikelihoods"]]
    else:
        texts = [_settings(record)]
        resps = [[one.get("output") or "" for one in rows]]
        filtered = [row.get("output") or ""]
    scores = {metric: row["scores"].get(name) for name, metric in metrics}
    return {
        "doc_id": number,
        "doc": doc,
        "target": target,
        "arguments": {f"gen_args_{i}": {"arg_0": prompt, "arg_1": text} for i, text in enumerate(texts)},
        "resps": resps,
        "filtered_resps": filtered,
        "filter": filter,
        "metrics": list(scores),
        "doc_hash": _sha256(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _sha256(prompt),
        "target_hash": _sha256(target),
        **scores,
    }


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
