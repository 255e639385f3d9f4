"""Every standard task in the plain format is lm-eval's own task, request for request and number for number."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from attrs import evolve

from slmbench.catalog import default_catalog
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.evaluation._harness import build_harness_task, render_all
from slmbench.formats import load_format
from slmbench.schema import SuiteSpec, parse
from slmbench.task import load_task, program_of
from slmbench.values import Output
from slmbench.yamlfile import read_yaml

pytestmark = pytest.mark.realdata

# Task, requests that lm-eval sends for the mirror's rows, shots to compare them at.
REQUESTS = [
    ("arc_easy", 642, (0, 5)),  # 160 questions; two have 5 choices.
    ("arc_challenge", 439, (0, 5)),  # 110 questions; one has 3 choices.
    ("boolq", 320, (0, 5)),
    ("hellaswag", 800, (0, 2)),
    ("openbookqa", 640, (0, 5)),
    ("piqa", 320, (0, 5)),
    ("winogrande", 320, (0, 5)),
    ("commonsense_qa", 800, (0, 5)),
    ("mmlu", 800, (0, 5)),
    ("pubmed_qa", 600, (0, 5)),
    ("gsm8k", 200, (0, 5)),
    ("squad", 200, (0,)),  # lm-eval's squadv2 fails with shots.
    ("nq_open", 160, (0, 5)),
    ("cnn_dailymail", 4, (0,)),  # Our golden rows: the mirror has none.
    ("hendrycks_math", 5, (0,)),  # The same.
    ("human_eval", 164, (0,)),
    ("mbpp", 200, (0, 3)),
]

# Task, shots, items, tokens to generate where stories260K's context of 512 has no room for the declared number.
ANSWERS = [
    ("arc_easy", 0, 12, None),
    ("arc_easy", 5, 4, None),
    ("arc_challenge", 0, 12, None),
    ("boolq", 0, 16, None),
    ("hellaswag", 0, 12, None),
    ("openbookqa", 0, 12, None),
    ("piqa", 0, 12, None),
    ("winogrande", 0, 12, None),
    ("winogrande", 5, 4, None),
    ("commonsense_qa", 0, 12, None),
    ("mmlu", 5, 6, None),
    ("pubmed_qa", 0, 4, None),
    ("gsm8k", 0, 3, None),
    ("squad", 0, 4, None),
    ("nq_open", 5, 5, None),
    ("cnn_dailymail", 0, 2, None),
    ("hendrycks_math", 0, 3, 64),
    ("human_eval", 0, 3, 64),
    ("mbpp", 3, 3, None),
]
# Of these some prompts are longer than the context; both sides have to cut them alike.
CUT = {("arc_easy", 5), ("boolq", 0), ("mmlu", 5), ("pubmed_qa", 0), ("squad", 0), ("nq_open", 5), ("mbpp", 3)}

SCORES = {
    "acc": "accuracy",
    "acc_norm": "accuracy_norm",
    "exact_match/strict-match": "exact_match/strict",
    "exact_match/flexible-extract": "exact_match/flexible",
    "exact_match/remove_whitespace": "exact_match/open",
}


@pytest.fixture(scope="session")
def whole_mirror(tmp_path_factory, lm_eval_own):
    source = os.environ.get("SLMBENCH_DATA")
    if not source:
        pytest.skip("needs a mirror of real records: set SLMBENCH_DATA to its folder")
    target = tmp_path_factory.mktemp("standard") / "mirror"
    lm_eval_own.lay_out(Path(source), target)
    return target


@pytest.fixture
def mirror(whole_mirror, monkeypatch):
    """A mirror that has every split the standard tasks name, and SLMBENCH_DATA set to it."""
    monkeypatch.setenv("SLMBENCH_DATA", str(whole_mirror))
    return whole_mirror


def _ours(task, format="plain", tokenizer=None):
    style = load_format(format)
    task = task.in_format(style)
    examples = task.examples(task.spec.split)
    harness = build_harness_task(task, examples, render_all(task, examples, style, tokenizer), style)
    harness.build_all_requests(limit=None, rank=0, world_size=1)
    return [(request.request_type, request.arguments) for request in harness.instances]


def _rows(mirror, name, split):
    return [json.loads(line) for line in (mirror / name / f"{split}.jsonl").read_bytes().splitlines()]


def test_every_standard_task_is_compared_and_the_suite_has_no_other(lm_eval_own):
    catalog = default_catalog()
    suite = parse(SuiteSpec, read_yaml(catalog.find("suites", "slm-core")))
    assert {name for name, *_ in REQUESTS} == {name for name, *_ in ANSWERS} == set(lm_eval_own.STANDARD)
    assert set(suite.tasks) <= set(lm_eval_own.STANDARD)


@pytest.mark.parametrize(
    ("name", "n", "shots"), [(name, n, shots) for name, n, several in REQUESTS for shots in several]
)
def test_requests_are_lm_evals_own(lm_eval_own, mirror, name, n, shots):
    if name == "hendrycks_math":
        pytest.importorskip("math_verify", reason="lm-eval's minerva_math imports math-verify")
    task = load_task(name).with_shots(shots)
    if task.kind == "code":
        task = task.with_samples(1)
    own = lm_eval_own.own_requests(name, mirror, shots=shots)
    ours = _ours(task)
    if name == "hendrycks_math":  # It says no length; 256 tokens cut a gold solution short here and there.
        assert {arguments[1].pop("max_gen_toks") for _, arguments in own} == {256}
        assert {arguments[1].pop("max_gen_toks") for _, arguments in ours} == {task.max_tokens}
    assert ours == own
    assert len(own) == n


@pytest.mark.parametrize(
    ("name", "yaml", "shots"),
    [
        ("human_eval", "humaneval/humaneval_instruct.yaml", 0),
        ("human_eval", "humaneval/humaneval_64_instruct.yaml", 0),
        ("mbpp", "mbpp/mbpp_instruct.yaml", 0),
        ("mbpp", "mbpp/mbpp_instruct.yaml", 3),
    ],
)
def test_chat_models_are_asked_for_code_as_by_lm_evals_instruct_tasks(
    lm_eval_own, mirror, nano_tokenizer, name, yaml, shots
):
    task = load_task(name).with_shots(shots)
    task = task if "64" in yaml else task.with_samples(1)
    own = lm_eval_own.own_requests(name, mirror, shots=shots, yaml=yaml, chat=nano_tokenizer)
    ours = _ours(task, "chat", nano_tokenizer)
    if name == "human_eval":
        # Its instruct task keeps the stops of bare completion, which cut an answer with a second function in it.
        assert {tuple(arguments[1].pop("until")) for _, arguments in own} == {tuple(task.stop)}
        assert {tuple(arguments[1].pop("until")) for _, arguments in ours} == {()}
    assert ours == own
    assert len(own) == (164 if name == "human_eval" else 200)


def test_human_evals_sampling_is_that_of_lm_evals_humaneval_64(lm_eval_own, mirror):
    own = lm_eval_own.own_requests("human_eval", mirror, shots=0, yaml="humaneval/humaneval_64.yaml")
    task = load_task("human_eval")
    assert _ours(task) == own
    assert task.spec.generation.samples == 10
    assert own[0][1][1]["temperature"] == 0.2


def test_mbpps_first_shots_are_the_three_that_lm_eval_fixes(lm_eval_own, mirror):
    ((_, own),) = lm_eval_own.own_tasks("mbpp", mirror, shots=3)
    task = load_task("mbpp")
    fixed = own.sampler.sample(3)
    shots = task.shots(task.examples("test", 1)[0])
    assert [shot.target.text for shot in shots] == [own.doc_to_target(doc) for doc in fixed]
    assert [shot.user for shot in shots] == [own.doc_to_text(doc) for doc in fixed]


@pytest.mark.parametrize("name", ["human_eval", "mbpp"])
def test_programs_are_tried_by_the_tests_that_lm_eval_tries_them_by(lm_eval_own, mirror, name):
    ((_, own),) = lm_eval_own.own_tasks(name, mirror, shots=0)
    task = load_task(name)
    others = []
    for example, doc in zip(task.examples("test"), own.eval_docs, strict=True):
        program = program_of(task, example, "    return 1\n")
        begun = doc["prompt"] if name == "human_eval" else ""
        assert program.code == begun + "    return 1\n"
        if program.tests.strip() != own.doc_to_target(doc).strip():
            others.append(doc)
    # lm-eval leaves the setup out, without which the tests of such a problem can't pass.
    setups = [row for row in _rows(mirror, name, "test") if row.get("test_setup_code")]
    assert [doc["task_id"] for doc in others] == [row["task_id"] for row in setups]
    assert len(setups) == (1 if name == "mbpp" else 0)


# What a model might write for a right answer, and for none.
SPELLINGS = [" {}", "{}", " the {}", " {}!", " A {}.", " {} or so", " no idea"]


def test_nq_opens_scores_of_right_answers_are_lm_evals_own(lm_eval_own, mirror):
    ((_, own),) = lm_eval_own.own_tasks("nq_open", mirror, shots=0)
    task = load_task("nq_open")
    own.build_all_requests(limit=None, rank=0, world_size=1)
    seen = []
    for spelling in SPELLINGS:
        for request in own.instances:
            request.resps = [spelling.format(request.doc["answer"][-1].upper())]
        own.apply_filters()
        for request, example in zip(own.instances, task.examples("validation"), strict=True):
            (filtered,) = request.filtered_resps.values()
            theirs = own.process_results(request.doc, [filtered])["exact_match"]
            scores = {score.metric: score.value for score in task.score(example, Output(text=request.resps[0]))}
            assert scores["exact_match/open"] == theirs
            seen.append(theirs)
    assert len(seen) == 7 * 160
    assert 0.1 < sum(seen) / len(seen) < 0.9


def test_rouge_of_articles_is_lm_evals_own(lm_eval_own, mirror):
    ((_, own),) = lm_eval_own.own_tasks("cnn_dailymail", mirror, shots=0)
    task = load_task("cnn_dailymail").with_metrics(["rouge/stemmed"])
    seen = []
    for example, doc in zip(task.examples("test"), own.eval_docs, strict=True):
        words = example.answer.split()
        for text in (example.answer, " ".join(words[::2]), "\n".join(reversed(words)), doc["article"], " nothing"):
            theirs = own.config.process_results.__globals__["calculate_rouge_scores"]([text], [doc["highlights"]])
            scores = {score.metric: score.value for score in task.score(example, Output(text=text))}
            for name, value in theirs.items():
                assert scores[f"{name}/stemmed"] == pytest.approx(value, abs=1e-12)
                seen.append(value)
    assert len(seen) == 4 * 5 * 3 and 0.2 < sum(seen) / len(seen) < 0.9


@pytest.mark.parametrize(("name", "shots", "limit", "max_tokens"), ANSWERS)
def test_answers_and_scores_are_lm_evals_own(lm_eval_own, stories, mirror, tmp_path, name, shots, limit, max_tokens):
    if name == "hendrycks_math":
        pytest.importorskip("math_verify", reason="lm-eval's minerva_math imports math-verify")
    task = load_task(name).with_shots(shots)
    task = task.with_metrics([scorer.name for scorer in task.scorers if scorer.ready is None])  # Without bertscore.
    if task.kind == "code":
        task = task.with_samples(1)
    if max_tokens is not None:
        generation = task.spec.generation.model_copy(update={"max_tokens": max_tokens})
        task = evolve(task, spec=task.spec.model_copy(update={"generation": generation}))
    own, means = lm_eval_own.own_results(
        name, mirror, stories.model, stories.tokenizer, batch=16, limit=limit, shots=shots, max_tokens=max_tokens
    )
    (run,) = evaluate_tasks(
        stories,
        [task],
        EvaluationOptions(out=str(tmp_path), batch=16, limit=limit, allow_unsafe_code=task.kind == "code"),
    )
    samples = run.samples()
    assert len(samples) == limit
    compared = set()
    for sample, their in zip(samples, own, strict=True):
        if "loglikelihoods" in their:
            assert sample["loglikelihoods"] == pytest.approx(their["loglikelihoods"], abs=1e-4)
        else:
            assert sample["output"] == their["output"]
        for their_name, value in their["scores"].items():
            assert sample["scores"][SCORES[their_name]] == value
            compared.add(their_name)
    values = {metric["name"]: metric["value"] for metric in run.record["metrics"]}
    assert {SCORES[title]: pytest.approx(mean, abs=1e-12) for title, mean in means.items()} == {
        SCORES[title]: values[SCORES[title]] for title in compared
    }
    assert compared or not lm_eval_own.STANDARD[name].scored
    assert any(sample["truncated"] for sample in samples) == ((name, shots) in CUT)
