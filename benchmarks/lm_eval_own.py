"""lm-eval's own tasks, its YAML as installed, on a mirror's rows: the oracle for `standard means equal`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from attrs import frozen

Row = dict[str, Any]

# What a task of lm-eval means by saying nothing: the defaults of its HFLM. Ours write them out.
UNSAID = {"do_sample": False, "temperature": 0.0, "max_gen_toks": 256}
# Where a mirror has no rows to take shots from, so many of the evaluated ones are set apart.
HELD_OUT = 40
GOLDEN = Path(__file__).resolve().parent.parent / "tasks"


@frozen
class Standard:
    """One of our tasks as lm-eval has it.

    yaml: below lm_eval/tasks. split, shot_split: what is evaluated and where shots come from; None for lm-eval's own.
    shots: with how many it is compared. columns: our data set's row -> lm-eval's, where it reads another copy.
    by: a column; lm-eval has a task for each of its values, which stands in the YAML's name.
    scored: False where its metrics are downloads.
    """

    yaml: str
    split: str
    shot_split: str | None = "train"
    shots: int = 5
    columns: Callable[[Row], Row] | None = None
    by: str | None = None
    scored: bool = True


def _pubmed_columns(row: Row) -> Row:
    return {**row, "CONTEXTS": row["context"]["contexts"], "QUESTION": row["question"]}


STANDARD = {
    "arc_easy": Standard("arc/arc_easy.yaml", "test"),
    "arc_challenge": Standard("arc/arc_challenge.yaml", "test"),
    # lm-eval reads the copy of SuperGLUE, whose `label` is our `answer` as a number.
    "boolq": Standard(
        "super_glue/boolq/default.yaml", "validation", columns=lambda row: {**row, "label": int(row["answer"])}
    ),
    "hellaswag": Standard("hellaswag/hellaswag.yaml", "validation", shots=2),
    "openbookqa": Standard("openbookqa/openbookqa.yaml", "test"),
    "piqa": Standard("piqa/piqa.yaml", "validation"),
    "winogrande": Standard("winogrande/default.yaml", "validation"),
    "commonsense_qa": Standard("commonsense_qa/default.yaml", "validation"),
    "mmlu": Standard("mmlu/default/mmlu_{}.yaml", "test", "dev", by="subject"),
    # lm-eval reads BigBIO's copy, whose columns have other names.
    "pubmed_qa": Standard("pubmedqa/pubmedqa.yaml", "test", columns=_pubmed_columns),
    "gsm8k": Standard("gsm8k/gsm8k.yaml", "test"),
    # The text of squadv2. With shots lm-eval 0.4.13 fails there (its doc_to_text takes one argument and gets two).
    "squad": Standard("squadv2/squadv2.yaml", "validation", shots=0, scored=False),
    "nq_open": Standard("nq_open/nq_open.yaml", "validation"),
    # Its shots come from the evaluated split, as it names no other; ours come from train.
    "cnn_dailymail": Standard("cnn_dailymail/cnn_dailymail.yaml", "test", shots=0, scored=False),
    # Seven alike, a subject each; of its two metrics one needs sympy's LaTeX parser. Its four shots are fixed ones.
    "hendrycks_math": Standard("minerva_math/minerva_math_algebra.yaml", "test", shots=0, scored=False),
    "human_eval": Standard("humaneval/humaneval.yaml", "test", None, shots=0, scored=False),
    "mbpp": Standard("mbpp/mbpp.yaml", "test", None, shots=3, scored=False),
}


def lay_out(source: Path, target: Path) -> None:
    """A mirror with every split that the standard tasks name, of one that has less. Both sides then read its files.

    Rows are copied as they stand; of a task that the mirror lacks they are our golden ones. Where the evaluated split
    is missing, validation stands in for it; where the one for shots is, the last rows of the evaluated one are set
    apart for it, if there are enough.
    """
    for name, standard in STANDARD.items():
        there = {path.stem: path.read_bytes().splitlines(keepends=True) for path in (source / name).glob("*.jsonl")}
        there = there or {standard.split: (GOLDEN / name / "samples.jsonl").read_bytes().splitlines(keepends=True)}
        there.setdefault(standard.split, there.get("validation", []))
        few = len(there[standard.split]) <= HELD_OUT
        if standard.shot_split is not None and standard.shot_split not in there and not few:
            lines = there[standard.split]
            there[standard.shot_split], there[standard.split] = lines[-HELD_OUT:], lines[:-HELD_OUT]
        (target / name).mkdir(parents=True)
        for split, lines in there.items():
            (target / name / f"{split}.jsonl").write_bytes(b"".join(lines))


def own_tasks(
    name: str, root: Path, *, shots: int, limit: int | None = None, yaml: str | None = None
) -> list[tuple[list[int], Any]]:
    """lm-eval's own task on the first `limit` rows, as (numbers of its rows, ConfigurableTask) pairs.

    Mostly one; of mmlu, one for each subject that those rows have. shots: worked examples, the first of their split.
    """
    standard = STANDARD[name]
    rows = {path.stem: _read(path, standard) for path in (root / name).glob("*.jsonl")}
    rows[standard.split] = rows[standard.split][:limit]
    yaml = yaml or standard.yaml
    if standard.by is None:
        return [(list(range(len(rows[standard.split]))), _task(yaml, rows, shots))]
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(rows[standard.split]):
        groups.setdefault(row[standard.by], []).append(number)
    return [
        (
            numbers,
            _task(
                yaml.format(group),
                {split: [row for row in there if row[standard.by] == group] for split, there in rows.items()},
                shots,
            ),
        )
        for group, numbers in groups.items()
    ]


def own_requests(
    name: str, root: Path, *, shots: int, yaml: str | None = None, chat: Any = None
) -> list[tuple[str, tuple[Any, ...]]]:
    """(kind, arguments) of every request of lm-eval's own task, in the order of the rows. chat: a tokenizer, with whose
    template prompts are written, a turn a shot."""
    of_row: dict[int, list[tuple[str, tuple[Any, ...]]]] = {}
    for numbers, task in own_tasks(name, root, shots=shots, yaml=yaml):
        for request in _sent(task, chat):
            text, second = request.arguments
            if isinstance(second, dict):
                second = {**UNSAID, **second}
            of_row.setdefault(numbers[request.doc_id], []).append((request.request_type, (text, second)))
    return [request for _, requests in sorted(of_row.items()) for request in requests]


def own_results(
    name: str, root: Path, model: Any, tokenizer: Any, *, batch: int, limit: int, shots: int, max_tokens: int | None
) -> tuple[list[Row], dict[str, float]]:
    """What a plain HFLM answers to lm-eval's own task, nothing of slmbench on the way.

    Returns an item a row, {"loglikelihoods" or "output", "scores"}, and lm-eval's means. Scores are named metric or,
    where the task has named filters, metric/filter; there are none where its metrics are downloads.
    """
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    engine = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch)
    pairs = own_tasks(name, root, shots=shots, limit=limit)
    if max_tokens is not None:
        for _, task in pairs:
            task.config.generation_kwargs["max_gen_toks"] = max_tokens
    if not STANDARD[name].scored:
        ((_, task),) = pairs
        outputs = engine.generate_until(_sent(task), disable_tqdm=True)
        return [{"output": output, "scores": {}} for output in outputs], {}
    results = lm_eval.simple_evaluate(
        model=engine,
        tasks=[task for _, task in pairs],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )
    items: dict[int, Row] = {}
    sums: dict[str, float] = {}
    for numbers, task in pairs:
        for sample in results["samples"][task.task_name]:
            item = items.setdefault(numbers[sample["doc_id"]], {"scores": {}})
            if task.OUTPUT_TYPE == "multiple_choice":
                item["loglikelihoods"] = [float(loglikelihood) for loglikelihood, _ in sample["filtered_resps"]]
            else:
                item["output"] = sample["resps"][0][0]
            for metric in sample["metrics"]:
                item["scores"][_score_name(metric, sample["filter"])] = float(sample[metric])
        for key, value in results["results"][task.task_name].items():
            metric, comma, filter_name = key.partition(",")
            if comma and not metric.endswith("_stderr"):
                title = _score_name(metric, filter_name)
                # Weighted by size, as lm-eval's own group of the mmlu tasks is.
                sums[title] = sums.get(title, 0.0) + float(value) * len(numbers)
    return [items[number] for number in sorted(items)], {title: total / len(items) for title, total in sums.items()}


def _score_name(metric: str, filter_name: str) -> str:
    return metric if filter_name == "none" else f"{metric}/{filter_name}"


def _sent(task: Any, chat: Any = None) -> list[Any]:
    def written(messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        # As HFLM.apply_chat_template, which needs a model.
        text = chat.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return str(text)

    options: dict[str, Any] = {"apply_chat_template": True, "fewshot_as_multiturn": True, "chat_template": written}
    task.build_all_requests(limit=None, rank=0, world_size=1, **(options if chat is not None else {}))
    # squadv2 also asks how likely "unanswerable" is, which has no meaning where every question has an answer.
    kind = "loglikelihood" if task.OUTPUT_TYPE == "multiple_choice" else "generate_until"
    return [one for one in task.instances if one.request_type == kind]


def _read(path: Path, standard: Standard) -> list[Row]:
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    return rows if standard.columns is None else [standard.columns(row) for row in rows]


def _task(yaml: str, rows: dict[str, list[Row]], shots: int) -> Any:
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    import datasets
    import lm_eval.tasks
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    with _no_downloads():
        config = dict(load_yaml(Path(lm_eval.tasks.__file__).parent / yaml, resolve_func=True))
    data = {split: datasets.Dataset.from_list(there) for split, there in rows.items() if there}
    if "class" in config:  # A task in Python, which downloads in its constructor.
        local = type("Local", (config["class"],), {"download": lambda self, *_, **__: setattr(self, "dataset", data)})
        return local()
    for key in ("tag", "dataset_path", "dataset_name"):
        config.pop(key, None)
    config |= {"custom_dataset": lambda **_: data, "num_fewshot": shots}
    config["fewshot_config"] = {**(config.get("fewshot_config") or {}), "sampler": "first_n"}
    return ConfigurableTask(config=config)


@contextmanager
def _no_downloads() -> Iterator[None]:
    # The modules of humaneval and mbpp fetch and try the metric `code_eval` when they are imported, and fail offline.
    # It would only score; requests and outputs don't ask it.
    with mock.patch("evaluate.load", lambda *_, **__: mock.Mock()):
        yield
