"""Every kind, format and mode through a real evaluation: samples of code, toon, chain of thought, pooled metrics."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.errors import OfflineError, UsageError
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.evaluation._harness import generation_kwargs, render_all
from slmbench.evaluation._judge import judge_code, read_answer
from slmbench.formats import load_format
from slmbench.leaderboard import build_leaderboard, load_runs
from slmbench.runs import MetricPart, metric_key
from slmbench.sandbox import Program, Sandbox, Verdict, open_sandbox
from slmbench.task import Settings, Task, load_task, load_task_folder

PLAIN, CHAT, TOON = (load_format(name) for name in ("plain", "chat", "toon"))

CODE_YAML = """\
summary: Small functions.
version: 1
license: mit
dataset: {files: {test: test.jsonl}, columns: [prompt, solution, test]}
kind: code
train_split: null
prompt: {user: "{{ prompt }}", delimiter: ""}
answer: "{{ solution }}"
code: {program: "{{ prompt }}{{ completion }}", tests: "{{ test }}"}
generation: {max_tokens: 12, stop: ["\\ndef"], samples: 4, temperature: 0.9}
metrics: [pass@1, pass@2]
"""
ROWS = [
    {"prompt": "def one(x):\n", "solution": "    return x + 1\n", "test": "assert one(1) == 2\nassert one(-1) == 0"},
    {"prompt": "import math\n\ndef two(x):\n", "solution": "    return math.sqrt(x)\n", "test": "assert two(9) == 3"},
    {"prompt": "def three(s):\n", "solution": "    return s[::-1]\n", "test": "assert three('äb') == 'bä'"},
]


@pytest.fixture
def code_task(tmp_path: Path) -> Task:
    folder = tmp_path / "tasks" / "small_code"
    folder.mkdir(parents=True)
    (folder / "task.yaml").write_text(CODE_YAML)
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return load_task_folder(str(folder), default_catalog())


def judged(task: Task, outputs: list[list[str]], style: Any = PLAIN) -> list[list[str]]:
    examples = task.examples("test")
    judge = judge_code(task, examples, style, open_sandbox())
    return [[answer.verdict for answer in one] for one in judge(outputs, list(range(len(outputs))))]


def test_verdicts_are_of_the_prompt_and_what_was_written_after_it(code_task: Task) -> None:
    outputs = [[row["solution"], "    pass\n", "    return x +\n", "    while True: pass\n"] for row in ROWS]
    verdicts = judged(code_task, outputs)
    assert [one[0] for one in verdicts] == ["passed"] * 3
    assert [one[1:3] for one in verdicts] == [["failed", "failed"]] * 3
    assert [one[3] for one in verdicts] == ["timed out"] * 3


def test_a_program_that_several_samples_wrote_is_run_once(code_task: Task) -> None:
    opened, run = open_sandbox(), []

    class Listening(Sandbox):
        def run(self, programs: Iterable[Program], **settings: Any) -> list[Verdict]:
            run.extend(programs)
            return opened.run(programs, **settings)

    judge = judge_code(code_task, code_task.examples("test"), PLAIN, Listening(opened.tier, opened.bwrap))
    right, wrong = ROWS[0]["solution"], "    pass\n"
    (answers,) = judge([[right, wrong, right, right, wrong]], [0])
    assert [answer.verdict for answer in answers] == ["passed", "failed", "passed", "passed", "failed"]
    assert len(run) == 2


def test_tests_in_the_programs_process_are_declared_recorded_and_a_comparison_of_their_own(
    code_task: Task, nano: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "weaker" / "small_code"
    shutil.copytree(code_task.folder, folder)
    (folder / "task.yaml").write_text(CODE_YAML.replace('"{{ test }}"}', '"{{ test }}", examine: in_process}'))
    weaker = load_task_folder(str(folder), default_catalog())
    runs = [
        evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path), limit=1))[0] for task in (code_task, weaker)
    ]
    assert [run.record["sandbox"].get("examine") for run in runs] == [None, "in_process"]
    assert runs[0].record["comparability_key"] != runs[1].record["comparability_key"]
    equal = "    class A:\n        def __eq__(self, o): return True\n    return A()\n"
    assert [judged(task, [[equal]])[0] for task in (code_task, weaker)] == [["failed"], ["passed"]]


def test_a_chat_models_fenced_function_replaces_the_one_that_the_prompt_began(code_task: Task) -> None:
    written = "Here it is:\n```python\ndef two(x):\n    return math.sqrt(x)\n```\nIt takes the root."
    assert judged(code_task, [[], [written]], CHAT)[1] == ["passed"]
    assert judged(code_task, [[], [written]], PLAIN)[1] == ["failed"]  # lm-eval runs what is written as it stands.


def test_the_blank_of_a_default_chat_template_is_no_part_of_a_program(code_task: Task) -> None:
    examples = code_task.examples("test")
    judge = judge_code(code_task, examples, CHAT, open_sandbox(), " ")
    assert [answer.verdict for answer in judge([[" " + row["solution"]] for row in ROWS], [0, 1, 2])[0]] == ["passed"]


def test_an_output_that_is_not_in_its_format_fails_without_being_taken_for_code(code_task: Task) -> None:
    body, whole = "    return x + 1\n", "def one(x):\n    return x + 1\n"
    assert judged(code_task, [[body, whole, f"Here:\n```python\n{whole}```"]], CHAT)[0] == ["passed"] * 3
    assert judged(code_task, [[whole, f"Here:\n```python\n{whole}```", "[1, 2"]], TOON)[0] == ["failed"] * 3


def test_blanks_that_toon_takes_off_an_unquoted_body_cost_it_nothing(code_task: Task) -> None:
    outputs = ['"    return x + 1"', "    return x + 1", "    return x - 1"]
    assert judged(code_task, [outputs], TOON)[0] == ["passed", "passed", "failed"]


def test_samples_of_a_code_task_are_drawn_run_and_recorded_one_by_one(
    code_task: Task, nano: Any, tmp_path: Path
) -> None:
    (run,) = evaluate_tasks(nano, [code_task], EvaluationOptions(out=str(tmp_path), batch=4))
    rows = run.samples()
    assert [(row["item_id"], row["epoch"]) for row in rows] == [(f"test-{i}", k) for i in range(3) for k in range(4)]
    assert len({row["output"] for row in rows}) > 3  # Drawn at a temperature, not one text repeated.
    assert {row["verdict"] for row in rows} <= {"passed", "failed", "timed out", "died"}
    assert all(row["verdict_detail"] for row in rows if row["verdict"] == "failed")
    assert run.record["sandbox"]["tier"] in ("bubblewrap", "namespaces")
    assert run.record["generation"]["samples"] == 4
    metrics = {metric["name"]: metric for metric in run.record["metrics"]}
    for k in (1, 2):
        assert metrics[f"pass@{k}"]["n"] == 3
        by_item = [row["scores"][f"pass@{k}"] for row in rows if row["epoch"] == 0]
        assert metrics[f"pass@{k}"]["value"] == pytest.approx(sum(by_item) / 3)
    loaded, notices = load_runs([tmp_path])
    assert not notices
    assert build_leaderboard(loaded).rows[0].cells["small_code/pass@1"].estimate.n == 3


def test_one_sample_is_greedy_and_leaves_out_what_needs_more(code_task: Task, nano: Any, tmp_path: Path) -> None:
    (task,), notices = Settings(samples=1).of([code_task])
    assert notices == ["small_code: pass@2 left out: --samples 1 are too few"]
    kwargs = generation_kwargs(task, PLAIN)
    assert (kwargs["do_sample"], kwargs["temperature"], "top_p" in kwargs) == (False, 0.0, False)
    first, second = (
        evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path / name)))[0].samples() for name in "ab"
    )
    assert [row["output"] for row in first] == [row["output"] for row in second]
    assert len(first) == 3


def test_a_killed_run_of_samples_goes_on_with_those_that_are_there(
    code_task: Task, nano: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slmbench.journal import Journal

    append, kept = Journal.append, []

    def dies_after_five(self: Journal, key: str, record: dict[str, Any]) -> None:
        if len(kept) == 5:
            raise KeyboardInterrupt
        kept.append(record["text"])
        append(self, key, record)

    monkeypatch.setattr(Journal, "append", dies_after_five)
    with pytest.raises(KeyboardInterrupt):
        evaluate_tasks(nano, [code_task], EvaluationOptions(out=str(tmp_path), batch=2))
    monkeypatch.setattr(Journal, "append", append)
    (run,) = evaluate_tasks(nano, [code_task], EvaluationOptions(out=str(tmp_path), batch=2))
    assert run.record["cost"]["n_resumed"] == 5
    assert set(kept) <= {row["output"] for row in run.samples()}
    assert len(run.samples()) == 12


def test_an_output_that_is_no_toon_scores_as_empty_and_is_counted(nano: Any, tmp_path: Path) -> None:
    (run,) = evaluate_tasks(
        nano, [load_task("nano_note")], EvaluationOptions(out=str(tmp_path), format="toon", limit=6)
    )
    faulty = [row for row in run.samples() if row["format_fault"]]
    # A base that never saw Toon; whatever it writes, fault and count agree, and a fault scores nothing.
    assert run.record["remarks"].get("not in format toon", 0) == len(faulty) > 0
    assert all(not any(row["scores"].values()) for row in faulty)
    assert any(row["output"] for row in faulty)  # The raw output stays to be read.


def test_toon_gold_reads_back_to_what_metrics_reward() -> None:
    for name in ("gsm8k", "squad", "ropes", "dolly_closed_qa"):
        task = load_task(name, data="samples")
        for example in task.examples(task.spec.split):
            written = TOON.write(task.target(example))
            answer = read_answer(TOON, example, f" {written}")
            assert (answer.text, answer.fault) == (task.target(example).text, "")


@pytest.mark.parametrize("mode", ["off", "zero", "few"])
def test_the_mode_of_thought_is_in_prompt_target_and_record(mode: str, nano: Any, tmp_path: Path) -> None:
    task = load_task("gsm8k", data="samples").with_cot(mode).with_shots(1 if mode == "few" else 0)
    (run,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path), limit=1))
    (row,) = run.samples()
    assert run.record["cot"] == mode
    assert ("Think step by step" in row["prompt"]) == (mode == "zero")
    assert row["prompt"].count("Question:") == (2 if mode == "few" else 1)
    assert ("\n####" in row["target"]) == (mode != "off")


def test_runs_of_other_modes_or_sampling_are_not_compared(code_task: Task, nano: Any, tmp_path: Path) -> None:
    gsm8k = load_task("gsm8k", data="samples").with_shots(0)
    tasks = [gsm8k, gsm8k.with_cot("off"), gsm8k.with_cot("zero"), code_task, code_task.with_samples(1)]
    keys = [
        evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path), limit=1))[0].record["comparability_key"]
        for task in tasks
    ]
    assert len(set(keys)) == len(keys)


def test_a_pooled_metric_is_recorded_with_its_parts_and_ranked(nano: Any, tmp_path: Path) -> None:
    from sklearn.metrics import f1_score

    (run,) = evaluate_tasks(nano, [load_task("pubmed_qa", data="samples")], EvaluationOptions(out=str(tmp_path)))
    rows = run.samples()
    metric = next(one for one in run.record["metrics"] if one["name"] == "macro_f1")
    gold = [row["choices"][row["gold"]] for row in rows]
    assert metric["value"] == pytest.approx(f1_score(gold, [row["output"] for row in rows], average="macro"))
    assert metric["pooled"] and metric["method"] in ("jackknife", "none")
    assert all(row["parts"]["macro_f1"] for row in rows)
    loaded, _ = load_runs([tmp_path])
    assert build_leaderboard(loaded).rows[0].cells["pubmed_qa/macro_f1"].estimate.value == metric["value"]


def test_each_choice_has_its_own_prompt_where_a_task_scores_what_follows_it(nano: Any) -> None:
    task = load_task("winogrande", data="samples")
    for request, example in zip(
        render_all(task, task.examples("validation"), PLAIN, nano.tokenizer), task.examples("validation"), strict=True
    ):
        assert len(request.texts) == len(example.choices) == 2
        assert all(text.endswith(choice) for text, choice in zip(request.texts, example.choices, strict=True))
        assert request.continuations == (example.continuation,)


def test_a_metric_without_its_weights_stops_the_run_before_the_model_works(
    nano: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLMBENCH_BERTSCORE", str(tmp_path / "nowhere"))
    task = load_task("medquad", data="samples")
    with pytest.raises((OfflineError, UsageError), match="nowhere"):
        evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path)))
    assert not (tmp_path / "runs").exists()
    (run,) = evaluate_tasks(nano, [task.with_metrics(["rouge"])], EvaluationOptions(out=str(tmp_path), limit=1))
    assert {metric["scorer"] for metric in run.record["metrics"]} == {"rouge"}


def test_another_model_behind_bertscore_is_another_run(
    nano: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "aeiou")]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    keys, values = [], []
    for seed in (0, 1):
        torch.manual_seed(seed)
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        folder = tmp_path / str(seed) / "model"  # The same name: what is inside has to tell them apart.
        BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
        BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(folder)
        for layer in (1, 2):
            monkeypatch.setenv("SLMBENCH_BERTSCORE", f"{folder}:{layer}")
            task = load_task("medquad", data="samples").with_metrics(["bertscore"]).with_max_tokens(8)
            (run,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path / "out"), limit=2))
            metric = MetricPart.model_validate(run.record["metrics"][0])
            keys.append((run.run_id, metric_key(run.record, metric)))
            values.append(metric.value)
    assert len(set(keys)) == len({key for _, key in keys}) == 4
    assert len(set(values)) == 4
