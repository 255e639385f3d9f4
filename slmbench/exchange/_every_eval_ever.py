"""Our runs as records of every_eval_ever (schema 0.3.0): one aggregate a run, and a line an item and metric.

Values of `additional_details` are texts there. Our intervals, n, and what makes two runs comparable all have a place.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from slmbench.errors import UsageError
from slmbench.files import disk_errors, write_together
from slmbench.runs import MetricPart, Run
from slmbench.values import JsonObject

SCHEMA_VERSION = "0.3.0"
RELATIONSHIPS = ("first_party", "third_party", "collaborative", "other")
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")
# JSON Lines are for others' parsers, which refuse half a character.
_HALF = re.compile("[\ud800-\udfff]")


def export_every_eval_ever(
    runs: Iterable[Run],
    out: str,
    *,
    organization: str,
    relationship: str = "third_party",
    developer: str | None = None,
    samples_of: Callable[[Run], Sequence[JsonObject]] = Run.samples,
) -> list[str]:
    """Writes `<out>/data/<task>/<developer>/<model>/<uuid>.json` and `<uuid>_samples.jsonl` of each run; their paths.

    organization: who ran the evaluation. relationship: of the evaluator to the model, one of `RELATIONSHIPS`.
    developer: who made the models whose id names nobody. samples_of: a run's samples, as they are to be seen. The uuid
    is made of the run, so that the same export writes the same files. Raises UsageError for a model without a maker.
    """
    runs = list(runs)
    nobodys = sorted({run.record["model"]["name"] for run in runs if "/" not in _model_id(run.record)})
    if nobodys and not developer:
        raise UsageError(f"every_eval_ever wants to know who made {', '.join(nobodys)}: add --developer NAME")
    written: list[str] = []
    for run in runs:
        record = run.record
        identity = hashlib.sha256(f"{run.run_id}\0{record['samples_sha256']}".encode(errors="surrogatepass")).digest()
        name = str(uuid.UUID(bytes=identity[:16], version=4))
        model = _model(record, str(developer))
        maker, _, short = model["id"].partition("/")
        place = "/".join(_slug(part) for part in (record["task"]["id"], maker, short))
        seconds = int(datetime.fromisoformat(str(record["created"])).timestamp())
        evaluation = f"{record['task']['id']}/{model['id']}/{seconds}"
        lines = [_dumped(line) + "\n" for line in _instances(run.record, samples_of(run), evaluation, model["id"])]
        samples = "".join(lines).encode()
        aggregate = {
            "schema_version": SCHEMA_VERSION,
            "evaluation_id": evaluation,
            "evaluation_timestamp": str(record["created"]),
            "retrieved_timestamp": str(seconds),
            "source_metadata": {
                "source_name": "slmbench",
                "source_type": "evaluation_run",
                "source_organization_name": organization,
                "evaluator_relationship": relationship,
                "additional_details": _texts({key: record.get(key) for key in ("run_id", "record_sha256", "code")}),
            },
            "eval_library": _library(record),
            "model_info": model,
            "evaluation_results": [_result(record, metric) for metric in record["metrics"]],
            "detailed_evaluation_results": {
                "format": "jsonl",
                "file_path": f"data/{place}/{name}_samples.jsonl",
                "hash_algorithm": "sha256",
                "checksum": hashlib.sha256(samples).hexdigest(),
                "total_rows": len(lines),
            },
        }
        folder = os.path.join(out, "data", *place.split("/"))
        files = {os.path.join(folder, f"{name}_samples.jsonl"): samples}
        files[os.path.join(folder, f"{name}.json")] = (_dumped(aggregate, indent=2) + "\n").encode()
        with disk_errors(folder):
            os.makedirs(folder, exist_ok=True)
            write_together(files)
        written += files
    return written


def _dumped(value: JsonObject, indent: int | None = None) -> str:
    return json.dumps(_whole(value), ensure_ascii=False, allow_nan=False, indent=indent)


def _whole(value: object) -> object:
    """A JSON value whose texts have no half characters."""
    if isinstance(value, str):
        return _HALF.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_HALF.sub("\ufffd", key): _whole(one) for key, one in value.items()}
    return [_whole(one) for one in value] if isinstance(value, list) else value


def _slug(text: str) -> str:
    # A folder of dots alone is another one.
    return _UNSAFE.sub("-", _HALF.sub("-", text)).strip(".") or "unknown"


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    """What is there of some values, as texts."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for key, value in values.items()
        if value is not None and value != {}
    }


def _library(record: JsonObject) -> JsonObject:
    imported = record.get("imported")
    if imported:
        return {"name": imported["tool"].replace("-", "_"), "version": str(imported.get("version") or "unknown")}
    details = _texts({"packages": record.get("packages"), "engine": record.get("engine_version")})
    version = str((record.get("code") or {}).get("version") or "unknown")
    return {"name": "slmbench", "version": version, "additional_details": details}


def _model_id(record: JsonObject) -> str:
    """The model's hub id, or its name: a folder's path names a machine and no developer."""
    told = str(record["model"].get("id") or "")
    hub = told.count("/") == 1 and all(told.split("/")) and not told.startswith(".")
    return told if hub else str(record["model"]["name"]).replace("/", "_")


def _model(record: JsonObject, developer: str) -> JsonObject:
    model, adapter = record["model"], record.get("adapter")
    whole = _model_id(record)
    whole = whole if "/" in whole else f"{_slug(developer)}/{whole}"
    name = model["name"] + (f" + {adapter['name']}" if adapter else "")
    details = _texts({key: value for key, value in model.items() if key not in ("name", "id")})
    details |= _texts({"adapter": adapter, "format": record.get("format")})
    details |= _texts({key: record.get(key) for key in ("tokenizer_sha256", "chat_template_sha256")})
    details |= {"deployment_type": "self_deployed", "model_availability": "open_weights"}
    found = {"name": name, "id": whole + (f"+{adapter['name']}" if adapter else ""), "additional_details": details}
    found["developer"] = whole.split("/")[0]
    if record.get("engine"):
        found["inference_engine"] = {"name": str(record["engine"]), "version": str(record.get("engine_version"))}
    return found


def _result(record: JsonObject, metric: JsonObject) -> JsonObject:
    part = MetricPart.model_validate(metric, extra="ignore")
    config: JsonObject = {
        "metric_id": part.name,
        "metric_name": part.name,
        "lower_is_better": not part.higher_is_better,
        "score_type": "continuous",
        "min_score": "-Infinity" if part.bounds is None else part.bounds[0],
        "max_score": "Infinity" if part.bounds is None else part.bounds[1],
    }
    details = {"scorer": part.scorer, "version": part.version, "pooled": part.pooled, "chance": part.chance}
    config["additional_details"] = _texts(details)
    uncertainty: JsonObject = {"num_samples": part.n}
    if part.method != "none":
        uncertainty["confidence_interval"] = {
            "lower": part.ci_lo,
            "upper": part.ci_hi,
            "confidence_level": 0.95,
            "method": part.method,
        }
        if part.se is not None:
            uncertainty["standard_error"] = {"value": part.se, "method": "jackknife" if part.pooled else "analytic"}
    return {
        "evaluation_result_id": _result_id(record, part.name),
        "evaluation_name": str(record["task"]["id"]),
        "evaluation_timestamp": str(record["created"]),
        "source_data": _source(record["dataset"]),
        "metric_config": config,
        "score_details": {"score": part.value, "uncertainty": uncertainty},
        "generation_config": _generation(record),
    }


def _result_id(record: JsonObject, metric: str) -> str:
    return f"{record['task']['id']}/{metric}"


def _source(dataset: JsonObject) -> JsonObject:
    told = ("revision", "source", "content_sha256", "items_sha256", "item_ids_sha256")
    details = _texts({key: dataset.get(key) for key in told})
    name = str(dataset.get("id") or "unknown")
    if "/" not in name or name.startswith(("/", ".")):
        return {"dataset_name": name, "source_type": "other", "additional_details": details}
    found = {"dataset_name": name.split("/")[-1], "source_type": "hf_dataset", "hf_repo": name}
    found |= {"hf_split": str(dataset["split"])} if dataset.get("split") else {}
    found |= {"samples_number": dataset["n"]} if dataset.get("n") is not None else {}
    return found | {"additional_details": details}


def _generation(record: JsonObject) -> JsonObject:
    generation = record.get("generation") or {}
    arguments: JsonObject = {"reasoning": record.get("cot") in ("zero", "few")}
    for ours, theirs in (("temperature", "temperature"), ("top_p", "top_p"), ("max_gen_toks", "max_tokens")):
        value = generation.get(ours)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            arguments[theirs] = int(value) if theirs == "max_tokens" else value
    if sandbox := record.get("sandbox"):
        arguments["sandbox"] = {"type": str(sandbox.get("tier"))}
    task = record["task"]
    details = {"stop": generation.get("until"), "samples": generation.get("samples"), "seed": record.get("seed")}
    details |= {"shots": (record.get("fewshot") or {}).get("n"), "cot": record.get("cot"), "limit": record.get("limit")}
    details |= {"task_version": task.get("version"), "task_digest": task.get("digest")}
    details |= {"prompts_sha256": record.get("prompts_sha256"), "comparability_key": record["comparability_key"]}
    return {"generation_args": arguments, "additional_details": _texts(details)}


def _instances(record: JsonObject, samples: Sequence[JsonObject], evaluation: str, model: str) -> Iterator[JsonObject]:
    for row in samples:
        prompt, references = row.get("prompt") or "", list(row.get("references") or [row.get("target") or ""])
        output, epoch = row.get("output") or "", row.get("epoch", 0)
        hashed = hashlib.sha256((prompt + "".join(references)).encode(errors="surrogatepass")).hexdigest()
        shared: JsonObject = {
            "schema_version": SCHEMA_VERSION,
            "evaluation_id": evaluation,
            "model_id": model,
            "evaluation_name": str(record["task"]["id"]),
            "sample_id": row["item_id"] if not epoch else f"{row['item_id']}#{epoch}",
            "sample_hash": hashed,
            "interaction_type": "single_turn",
            "input": {"raw": prompt, "formatted": prompt, "reference": references, "choices": row.get("choices")},
            "output": {"raw": [output]},
            "answer_attribution": [
                {
                    "turn_idx": 0,
                    "source": "output.raw",
                    "extracted_value": output,
                    "extraction_method": "log_likelihood" if row.get("loglikelihoods") else "custom",
                    "is_terminal": True,
                }
            ],
        }
        tokens_in, tokens_out = row.get("tokens_in"), row.get("tokens_out")
        if tokens_in is not None and tokens_out is not None:
            used = {"input_tokens": tokens_in, "output_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
            shared["token_usage"] = used
        if row.get("latency_ms") is not None:
            shared["performance"] = {"latency_ms": row["latency_ms"]}
        details = {"verdict": row.get("verdict"), "cluster_id": row.get("cluster_id")}
        shared["metadata"] = _texts({**details, "finish_reason": row.get("finish_reason")})
        for metric in record["metrics"]:
            score = row["scores"].get(metric["name"])
            if score is None:
                continue
            best = metric["range"][1 if metric["higher_is_better"] else 0] if metric.get("range") else None
            yield shared | {
                "evaluation_result_id": _result_id(record, metric["name"]),
                "evaluation": {"score": score, "is_correct": best is not None and score == best},
            }
